"""YAML files as trees of keys."""

from pathlib import Path
from typing import Any, cast

import yaml

from cluster.errors import ConfigError


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; `on` and `off` stay words. Raises ConfigError naming the file."""
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("configuration file", str(path), f"cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError("configuration file", str(path), f"is not YAML: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError("configuration file", str(path), "must hold a mapping of keys")
    return cast("dict[str, Any]", tree)


def put(tree: dict[str, Any], keys: list[str], value: object, source: str) -> None:
    """Set the key at the end of `keys`. Raises ConfigError, which names `source`."""
    for key in keys[:-1]:
        branch = tree.setdefault(key, {})
        if branch is None:  # `section:` with nothing below it
            branch = tree[key] = {}
        if not isinstance(branch, dict):
            raise ConfigError(source, value, f"{key} is a value, it has no keys below it")
        tree = branch
    tree[keys[-1]] = value


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads `reuse: off` as false; here only true and false are booleans."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag != "tag:yaml.org,2002:bool" or first in "tTfF"
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
