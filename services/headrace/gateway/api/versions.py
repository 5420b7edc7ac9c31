"""The model and version that a request names."""

from headrace.errors import BadName, BadVersion, UnknownModel, UnknownVersion
from headrace.gateway.api.context import Call
from headrace.gateway.routing.version import Version
from headrace_models.names import is_model_name, is_version_name

__all__ = ["find", "names_version", "version_of", "visible", "visible_versions"]


def version_of(call: Call) -> Version:
    """The version that the path names; if it names none, the one that answers by default."""
    params = call.exchange.params
    model, version = params["model"], params.get("version")
    if label := params.get("label"):
        version = call.context.labels.get(model, {}).get(label)
        if version is None:
            find(call, model)
            raise UnknownVersion("the model has no version with this label")
    return find(call, model, version)


def names_version(call: Call) -> bool:
    """Tell whether the path names the version that is to answer."""
    params = call.exchange.params
    return "version" in params or "label" in params


def find(call: Call, model: str, version: str | None = None) -> Version:
    """A version by name. Raises BadName or BadVersion for impossible names, and whatever the router
    raises.

    A model that the caller's key may not use is unknown to this caller.
    """
    if not is_model_name(model):
        raise BadName(
            "model: expected a letter or digit, then up to 127 letters, digits, dots, dashes "
            "or underscores"
        )
    if version is not None and not is_version_name(version):
        raise BadVersion(
            "version: expected a letter or digit, then up to 31 letters, digits, dots, dashes "
            "or underscores"
        )
    exchange = call.exchange
    if not exchange.may_use(model):
        raise UnknownModel("no such model")
    found = call.context.router.find(model, version)
    exchange.model, exchange.version = found.spec.name, found.spec.version
    return found


def visible(call: Call) -> list[str]:
    """The names of the models that the caller may use."""
    return sorted(name for name in call.context.router.models() if call.exchange.may_use(name))


def visible_versions(call: Call) -> list[Version]:
    """The versions of those models."""
    models = call.context.router.models()
    return [version for name in visible(call) for version in models[name].values()]
