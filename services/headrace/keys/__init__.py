"""Who may ask: keys and their limits, the file that holds them, and the certificate of the data port."""
