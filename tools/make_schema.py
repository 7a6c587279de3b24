"""Write the JSON Schema of compare.json anew from the classes: python tools/make_schema.py (needs the dev extra)."""

import json
from pathlib import Path

from pydantic import TypeAdapter

from yolo_mha.evaluation.comparison import Comparison

FILE = Path(__file__).parents[1] / "yolo_mha" / "evaluation" / "compare.schema.json"


def schema() -> str:
    """Return the schema as text."""
    content = TypeAdapter(Comparison).json_schema(mode="serialization")
    classes = content["$defs"]
    for name in ("Arm", "Control", "Given", "Insertion"):  # an arm is written as in a recipe
        del classes[name]
    classes["Recipe"]["properties"]["arms"]["additionalProperties"] = {"additionalProperties": True, "type": "object"}
    own = {"$schema": "https://json-schema.org/draft/2020-12/schema", **content, "title": "yolo-mha compare.json"}
    return json.dumps(own, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(schema(), encoding="utf-8")
    print(FILE)
