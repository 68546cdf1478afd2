"""A small checkpoint that is sure of what follows: a new model of a configuration, trained for some steps on one sequence.

Arguments: folder with config.json, folder to write. Standard input: JSON, {"changes": fields of config.json, "text": token ids, "steps": n}.
"""
import json
import sys

import torch
import transformers

transformers.logging.set_verbosity_error()
source, target = sys.argv[1:]
task = json.load(sys.stdin)
text = torch.tensor(task["text"])
batch, length, rate = 8, 48, 5e-3

torch.manual_seed(1)
with open(f"{source}/config.json") as file:
    config = {**json.load(file), **task["changes"]}
architecture = getattr(transformers, config["architectures"][0])
model = architecture(architecture.config_class.from_dict(config)).train()
model.set_attn_implementation("eager")
model.set_experts_implementation("eager")
optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=task["steps"])
for _ in range(task["steps"]):
    starts = torch.randint(len(text) - length, (batch,))
    ids = torch.stack([text[i : i + length] for i in starts])
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
model.eval().save_pretrained(target)
print(json.dumps({"loss": loss.item()}))
