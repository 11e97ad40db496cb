"""The options of the broker as models: `broker.config` describes them, and here they get their YAML form.

Nothing about an option is repeated: name, type, default, bounds and description are the broker's. Only how a value is
written (``1MiB``, ``2h``, ``127.0.0.1:1883``) is added, by the option's unit and type.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Discriminator, Field, Tag, TypeAdapter, create_model

from broker.config import BrokerConfig, ListenerConfig, OptionField, Unit, options_of
from broker.listeners import TYPES, load_listener
from broker.origin import Address
from engine.config.address import Bind
from engine.config.model import Model
from engine.config.units import Duration, Size, WholeSeconds

DEFAULT_TYPE = "tcp"
"""The type of a listener without ``type``."""


class MqttOptions(Model):
    """The options of the protocol, for all listeners. Most names are EMQX's."""

    def config(self, listeners: tuple[ListenerConfig, ...]) -> BrokerConfig:
        """Return the broker's configuration."""
        return BrokerConfig(listeners=listeners, **_values(self, BrokerConfig))


class ListenerOptions(Model):
    """The options of one listener."""

    broker_config: ClassVar[type[ListenerConfig]]

    def config(self) -> ListenerConfig:
        """Return the broker's configuration of the listener."""
        return self.broker_config(**_values(self, self.broker_config))


def mqtt_model() -> type[MqttOptions]:
    """Return the model of the key ``mqtt``."""
    return create_model("MqttSettings", __base__=MqttOptions, __doc__=MqttOptions.__doc__, **_fields(BrokerConfig))


def listener_model(name: str, config: type[ListenerConfig]) -> type[ListenerOptions]:
    """Return the model of a listener of type `name`."""
    described = {"type": (Literal[name], Field(name, description="The transport.")), **_fields(config)}
    model: type[ListenerOptions] = create_model(
        f"{name.capitalize()}Listener", __base__=ListenerOptions, __doc__=config.__doc__, **described
    )
    model.broker_config = config
    return model


def any_listener(types: Mapping[str, str] = TYPES) -> Any:
    """Return the annotation of a listener of any type: one model, or a union with ``type`` as discriminator."""
    models = {name: listener_model(name, load_listener(name, types).Config) for name in types}
    if len(models) == 1:
        return next(iter(models.values()))
    tagged = [Annotated[model, Tag(name)] for name, model in models.items()]
    return Annotated[reduce(or_, tagged), Discriminator(_type_of)]


def default_listener(annotation: Any) -> ListenerOptions:
    """Return the listener that an empty mapping stands for."""
    listener: ListenerOptions = TypeAdapter(annotation).validate_python({})
    return listener


def _type_of(value: Any) -> Any:
    return value.get("type", DEFAULT_TYPE) if isinstance(value, Mapping) else getattr(value, "type", None)


def _fields(config: type) -> dict[str, Any]:
    return {item.name: (_written(item), _described(item)) for item in options_of(config)}


def _written(item: OptionField) -> Any:
    """Return the type of an option as it is written in YAML."""
    parts = get_args(item.type) or (item.type,)
    if item.option.unit is Unit.BYTES:
        form: Any = Size
    elif item.option.unit is Unit.SECONDS:
        form = Duration if float in parts else WholeSeconds
    elif item.type is Address:
        form = Bind
    else:
        return item.type
    return form | None if type(None) in parts else form


def _described(item: OptionField) -> Any:
    option = item.option
    return Field(item.default, description=option.description, ge=option.ge, le=option.le)


def _values(model: Model, config: type) -> dict[str, Any]:
    """Return the values of `model` by the names of `config`'s options."""
    return {item.name: getattr(model, item.name) for item in options_of(config)}
