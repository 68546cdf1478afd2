"""Logits of checkpoints in transformers, against a golden of each (docs/guide/verify.md).

Standard input: JSON, a list of [checkpoint folder, golden folder]. One JSON line per pair: the class that loaded it, tensors that it
missed or did not know, max |difference| / max |value| in float64 and in float32, and of these two to each other; or the error.
"""
import json
import sys

import torch
import transformers
from safetensors.torch import load_file

transformers.logging.set_verbosity_error()


def compare(checkpoint, golden):
    with open(f"{checkpoint}/config.json") as file:
        architecture = json.load(file)["architectures"][0]
    with open(f"{golden}/golden.json") as file:
        inputs = json.load(file)
    expected = load_file(f"{golden}/golden.safetensors")["logits"].double()
    ids = {key: torch.tensor(inputs[key]) for key in ("input_ids", "decoder_input_ids") if key in inputs}
    result = {"class": architecture}
    logits = {}
    for name, dtype in (("float64", torch.float64), ("float32", torch.float32)):
        model, info = getattr(transformers, architecture).from_pretrained(
            checkpoint, dtype=dtype, attn_implementation="eager", experts_implementation="eager", output_loading_info=True
        )
        with torch.no_grad():
            logits[name] = model.eval()(**ids, use_cache=False).logits.double()
        result[name] = error(logits[name], expected)
        result["missing"] = sorted(info["missing_keys"])
        result["unexpected"] = sorted(info["unexpected_keys"])
    result["lost"] = error(logits["float32"], logits["float64"])
    return result


def error(got, expected):
    return ((got - expected).abs().max() / expected.abs().max()).item()


for pair in json.load(sys.stdin):
    try:
        print(json.dumps(compare(*pair)), flush=True)
    except Exception as error:  # the others are still worth their lines
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
