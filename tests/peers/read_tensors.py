"""The tensors of a file of safetensors: dtype, shape, sum of each, and the metadata."""
import json
import sys

from safetensors import safe_open

with safe_open(sys.argv[1], framework="pt") as file:
    tensors = {name: file.get_tensor(name) for name in file.keys()}
    found = {
        name: {"dtype": str(x.dtype), "shape": list(x.shape), "sum": repr(x.double().sum().item())}
        for name, x in tensors.items()
    }
    print(json.dumps({"tensors": found, "metadata": file.metadata()}))
