"""What a FastAPI script would do with the same network: eager torch, the views in one batch, the same size limit.

    python benchmarks/plain_service.py WEIGHTS.safetensors --backbone resnet18 --side 128 --port 3801

`benchmarks/endpoint_load.py` starts it, to have something to be compared with.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import fastapi
import numpy as np
import torch
import uvicorn
from PIL import Image
from safetensors.torch import load_file

from derm_ml.nets.classifier import ClassifierNetwork

MAX_BYTES = 10 * 2**20


def service(weights: Path, backbone: str, side: int, labels: int) -> fastapi.FastAPI:
    """POST /predict with the bytes of an image → probabilities, averaged over the four flips."""
    network = ClassifierNetwork(backbone, labels, "none").eval()
    network.load_state_dict(load_file(weights))
    app = fastapi.FastAPI()

    @app.post("/predict")
    async def predict(request: fastapi.Request) -> dict[str, list[float]]:
        body = await request.body()
        if len(body) > MAX_BYTES:
            raise fastapi.HTTPException(413)
        return {"probabilities": await fastapi.concurrency.run_in_threadpool(answer, body)}

    def answer(body: bytes) -> list[float]:
        image = Image.open(io.BytesIO(body)).convert("RGB").resize((side, side), Image.Resampling.BOX)
        square = torch.from_numpy(np.array(image))
        views = torch.stack([square, square.flip(0), square.flip(1), square.flip((0, 1))])
        with torch.inference_mode():
            return network(views).mean(0).softmax(0).tolist()

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a network with FastAPI and eager torch.")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--labels", type=int, default=3)
    parser.add_argument("--port", type=int, default=3801)
    given = parser.parse_args()
    app = service(given.weights, given.backbone, given.side, given.labels)
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
