"""Matrix products of PyTorch (MKL), one a line of stdin "PRODUCT THREADS" (line_protocol.py).

    python products.py '[{"name": ..., "m": ..., "n": ..., "k": ..., "layout": "forward"}, ...]'

Layouts as Weir's: forward x w^T, input_gradient dy w, weight_gradient dy^T x, each into an array that is
there already. One thread is timed by the process's own time, as Weir's is, two by the wall clock.
"""

from __future__ import annotations

import json
import sys
import time

import torch

from line_protocol import serve


class Product:
    def __init__(self, shape: dict) -> None:
        m, n, k = shape["m"], shape["n"], shape["k"]
        layout = shape["layout"]
        self.a = torch.randn(k, m).T if layout == "weight_gradient" else torch.randn(m, k)
        self.b = torch.randn(n, k).T if layout == "forward" else torch.randn(k, n)
        self.out = torch.empty(m, n)

    def seconds(self, threads: int) -> float:
        clock = time.process_time if threads == 1 else time.perf_counter
        start = clock()
        torch.mm(self.a, self.b, out=self.out)
        return clock() - start


def main() -> None:
    products = [Product(shape) for shape in json.loads(sys.argv[1])]

    def answer(words: list[str]) -> dict:
        index, threads = map(int, words)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        return {"seconds": products[index].seconds(threads)}

    for index in range(len(products)):
        for threads in ("2", "1"):
            answer([str(index), threads])
    serve(answer, version=f"torch {torch.__version__}")


if __name__ == "__main__":
    main()
