"""The Python server that `benches/serve.py` measures `bam serve` against: FastAPI, onnxruntime, and the fast tokenizer of
transformers, put together as their manuals do.

    MODEL=artifacts/latest/onnx THREADS=2 uvicorn --app-dir benches python_server:app
"""

import json
import os
import pathlib

import numpy
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import AutoTokenizer

folder = pathlib.Path(os.environ["MODEL"])
about = json.loads((folder / "bam.json").read_text())
labels = {task["name"]: task.get("labels") for task in about["tasks"]}
tokenizer = AutoTokenizer.from_pretrained(folder)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(os.environ["THREADS"])
session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
app = FastAPI()


class Request(BaseModel):
    inputs: str | list[str]
    tasks: list[str]


@app.post("/v1/predict")
def predict(request: Request):
    texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    rows = tokenizer(texts, padding=True, truncation=True, max_length=about["max_tokens"], return_tensors="np")
    outputs = session.run(request.tasks, {name: rows[name].astype(numpy.int64) for name in rows})
    results = [{} for _ in texts]
    for task, logits in zip(request.tasks, outputs):
        powers = numpy.exp(logits - logits.max(axis=1, keepdims=True))
        for result, row in zip(results, powers / powers.sum(axis=1, keepdims=True)):
            result[task] = dict(zip(labels[task], row.tolist()))
    return {"results": results}
