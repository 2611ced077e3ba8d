#!/usr/bin/env python3
"""Makes models/hugging_face_defaults.cpp: what `transformers` takes for keys that a config.json leaves out.

    /tmp/reference/bin/python tests/reference/config_defaults.py > models/hugging_face_defaults.cpp

For each model type in models/architectures.cpp: the default of every field of its configuration class, the fields that
may be null, and the parameters of generation that a config.json may carry, which no model reads.
"""

import json
import pathlib
import re
import types
import typing

import transformers
from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.generation import GenerationConfig

TABLE = pathlib.Path(__file__).resolve().parents[2] / "models" / "architectures.cpp"


def model_types() -> list[str]:
    """Of the rows of the table, which have {"llama", "LlamaForCausalLM"}."""
    return re.findall(r'\{"(\w+)", "\w+(?:ForCausalLM|LMHeadModel)"', TABLE.read_text())


def may_be_null(annotation) -> bool:
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return union and type(None) in typing.get_args(annotation)


def table_of(config_class) -> dict:
    # The fields of the class itself; those of its base say nothing of a computation.
    own = {name: note for name, note in config_class.__annotations__.items() if not name.startswith("base_")}
    own = {name: note for name, note in own.items() if typing.get_origin(note) is not typing.ClassVar}
    values = {name: getattr(config_class, name) for name in own if name != "model_type"}
    if "rope_parameters" in own:  # in the place of rope_theta, which a file may have by itself
        values["rope_theta"] = config_class.default_theta
    return {
        "defaults": dict(sorted(values.items())),
        "nullable": sorted(name for name, note in own.items() if may_be_null(note)),
        "aliases": dict(sorted(config_class.attribute_map.items())),
    }


def main() -> None:
    table = {name: table_of(CONFIG_MAPPING[name]) for name in model_types()}
    assert len(table) >= 5
    table["generation"] = sorted(GenerationConfig._get_default_generation_params())
    assert all(issubclass(CONFIG_MAPPING[name], PreTrainedConfig) for name in model_types())
    text = json.dumps(table, indent=1, sort_keys=False)
    print(f"""// Made by tests/reference/config_defaults.py from transformers {transformers.__version__}.
#include "models/hugging_face_defaults.h"

#include <nlohmann/json.hpp>

namespace weir {{
namespace {{

constexpr const char* kTable = R"json({text})json";

}}  // namespace

const nlohmann::ordered_json& hugging_face_defaults() {{
  static const auto table = nlohmann::ordered_json::parse(kTable);
  return table;
}}

}}  // namespace weir""")


if __name__ == "__main__":
    main()
