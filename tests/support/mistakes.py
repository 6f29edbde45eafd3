"""Methods with one mistake each, as people make them in good faith, and the check that finds it.

`python benchmarks/mistakes.py` prints what `peftbench check` says of each: docs/results/checks.md.
Long because it is a list, whose entries are read one by one.
"""

from __future__ import annotations

from .mistake import (
    ALL,
    BUDGET,
    FUTURE,
    ITEM,
    LATENCY,
    MERGED,
    OTHERWISE,
    PROCESS,
    SEEDS,
    SPOILED,
    TERMS,
    UNDECLARED,
    UNMERGED,
    UNSTORED,
    UNTRAINED,
    WRITTEN,
    Mistake,
)

MISTAKES = {
    "batch-statistics": Mistake(ITEM, "items alone", """
class Layer(Low):
    def update(self, x):
        low = x @ self.a.T
        return (low - low.mean((0, 1))) @ self.b.T
""", UNMERGED),
    "gate-over-padding": Mistake(ITEM, "items alone", """
class Layer(Low):
    def update(self, x):
        return super().update(x) * x.mean(1, keepdim=True).abs().sum(-1, keepdim=True)
""", UNMERGED),
    "adapts-while-scoring": Mistake(ITEM, "items alone", """
class Layer(Low):
    def __init__(self, base, sites):
        super().__init__(base, sites)
        self.register_buffer("seen", torch.zeros(()))
    def update(self, x):
        if not self.training:
            self.seen.mul_(0.9).add_(0.1 * x.detach().abs().mean())
        return super().update(x) * (1 + self.seen)
""", UNMERGED),
    "symmetric-kernel": Mistake(FUTURE, "causal", """
class Layer(Low):
    def update(self, x):
        low = x @ self.a.T
        near = functional.pad(low, (0, 0, 1, 1))
        return (near[:, :-2] + low + near[:, 2:]) / 3 @ self.b.T
""", UNMERGED),
    "convolution-without-its-past": Mistake(WRITTEN, "causal", """
class Layer(Low):
    def update(self, x):
        low = x @ self.a.T
        past = functional.pad(low, (0, 0, 2, 0))[:, : low.shape[1]]
        return (low + past) / 2 @ self.b.T
""", UNMERGED, in_every_run=False),
    "place-in-the-pass": Mistake(WRITTEN, "causal", """
class Layer(Low):
    def __init__(self, base, sites):
        super().__init__(base, sites)
        self.place = nn.Parameter(torch.zeros(512, len(weight_of(base)), device=weight_of(base).device))
    def update(self, x):
        return super().update(x) + self.place[: x.shape[1]]
""", UNMERGED, in_every_run=False),
    "clamp": Mistake(MERGED, "merge", """
class Layer(Low):
    def update(self, x):
        return super().update(x).clamp(-1, 1)
""", in_every_run=False),
    "gate": Mistake(MERGED, "merge", """
class Layer(Low):
    def update(self, x):
        return super().update(x) * torch.sigmoid(x.mean(-1, keepdim=True))
"""),
    "norm": Mistake(MERGED, "merge", """
class Layer(Low):
    def update(self, x):
        low = x @ self.a.T.to(x.dtype)
        return functional.normalize(low, dim=-1) @ self.b.T.to(x.dtype)
"""),
    "third-block-on": Mistake(MERGED, "merge", """
def inject(self, model):
    made = []
    class Layer(Low):
        def fold(self):
            return self.base if self.late else super().fold()
    def build(base, sites):
        layer = Layer(base, sites)
        layer.late = len(made) >= 4  # query and value of two blocks; of a fused projection of four
        made.append(layer)
        return layer
    return swap(model, "query+value", build)
"""),
    "wrong-in-bfloat16": Mistake(MERGED, "merge", """
class Layer(Low):
    def forward(self, x):
        out = self.base(x)
        return out if x.dtype == torch.bfloat16 else out + self.update(x)
""", in_every_run=False),
    "wrong-in-autocast": Mistake(MERGED, "merge", """
class Layer(Low):
    def forward(self, x):
        out = self.base(x)
        return out if out.dtype == torch.bfloat16 else out + self.update(x)
""", in_every_run=False),
    "wrong-beyond-25-tokens": Mistake(MERGED, "merge", """
class Layer(Low):
    def update(self, x):
        return super().update(x) if x.shape[1] <= 25 else super().update(x) * 1.5
"""),
    "folds-to-the-wrapper": Mistake(SPOILED, "merge", """
class Layer(Low):
    def fold(self):
        return self
"""),
    "folds-into-the-base": Mistake(SPOILED, "merge", """
class Layer(Low):
    @torch.no_grad()
    def fold(self):
        weight_of(self.base).data.add_(self.b @ self.a)
        return self.base
"""),
    "in-a-list": Mistake(UNDECLARED, "only declared moves", """
class Layer(Low):
    def __init__(self, base, sites):
        super().__init__(base, sites)
        self.extra = [nn.Parameter(torch.zeros(len(weight_of(base)), device=weight_of(base).device))]
    def update(self, x):
        return super().update(x) + self.extra[0]
""", UNMERGED),
    "counted-as-head": Mistake(UNDECLARED, "only declared moves", """
def inject(self, model):
    adaptation = low(model)
    head = {n: p for n, p in model.named_parameters() if n.startswith(("classifier", "score"))}
    adaptation.head = {**head, **{n: p for n, p in adaptation.params.items() if n.endswith(".b")}}
    return adaptation
"""),
    "optimizer-of-its-own": Mistake(UNDECLARED, "only declared moves", """
def inject(self, model):
    adaptation = low(model)
    shifts = []
    for base, wrapper in adaptation.swaps.values():
        shift = torch.zeros(len(weight_of(base)), requires_grad=not weight_of(base).is_meta)
        wrapper.register_forward_hook(lambda module, args, out, shift=shift: out + shift)
        shifts.append(shift)
    optimizer = torch.optim.SGD(shifts, lr=0.1)
    def after_step(step, steps):
        optimizer.step()
        optimizer.zero_grad()
    adaptation.after_step = after_step
    return adaptation
""", UNMERGED),
    "shadow-copies": Mistake(UNDECLARED, "only declared moves", """
def inject(self, model):
    adaptation = low(model)
    shadow = {}
    def after_step(step, steps):
        for name, p in adaptation.params.items():
            shadow.setdefault(name, p.detach().clone()).lerp_(p.detach(), 0.1)
    def settle():
        for name, p in adaptation.params.items():
            if name in shadow:
                p.data.copy_(shadow[name])
    adaptation.after_step, adaptation.settle = after_step, settle
    return adaptation
"""),
    "shadow-at-scoring": Mistake(UNDECLARED, "save and load", """
class Layer(Low):
    def __init__(self, base, sites):
        super().__init__(base, sites)
        self.shadow = None
    def update(self, x):
        if self.training:
            now = self.b.detach()
            self.shadow = now.clone() if self.shadow is None else self.shadow.lerp(now, 0.1)
            return super().update(x)
        b = self.b if self.shadow is None else self.shadow
        return x @ self.a.T @ b.T
""", UNMERGED),
    "made-at-the-first-pass": Mistake(UNTRAINED, "only declared moves", """
class Layer(Low):
    def update(self, x):
        if self.training and not hasattr(self, "late"):
            self.late = nn.Parameter(torch.ones(self.b.shape[0]))
        return super().update(x) * getattr(self, "late", 1)
""", UNMERGED),
    "not-in-the-optimizer": Mistake(UNTRAINED, "all declared train", """
class Layer(Low):
    def update(self, x):
        if self.training and not hasattr(self, "ready"):
            self.ready = True
            self.b = nn.Parameter(self.b.detach().clone())
        return super().update(x)
""", UNMERGED),
    "gradient-of-zero": Mistake(UNTRAINED, "all declared train", """
class Layer(Low):
    def __init__(self, base, sites):
        super().__init__(base, sites)
        self.a.data.zero_()
""", ALL.replace(", random_init=True", "")),
    "detached": Mistake(UNTRAINED, "all declared train", """
class Layer(Low):
    def update(self, x):
        return x @ self.a.detach().T @ self.b.T
""", UNMERGED),
    "works-in-training-alone": Mistake(UNTRAINED, "all declared train", """
class Layer(Low):
    def forward(self, x):
        return super().forward(x) if self.training else self.base(x)
""", UNMERGED, in_every_run=False),
    "another-scale-while-scored": Mistake(OTHERWISE, "all declared train", """
class Layer(Low):
    def update(self, x):
        return super().update(x) if self.training else 2 * super().update(x)
    def fold(self):
        return plain(self.base, weight_of(self.base).float() + 2 * self.b @ self.a, self.base.bias)
""", in_every_run=False),
    "half-of-it-in-training-alone": Mistake(OTHERWISE, "all declared train", """
def inject(self, model):
    made = []
    class Layer(Low):
        def forward(self, x):
            return self.base(x) if self.late and not self.training else super().forward(x)
    def build(base, sites):
        layer = Layer(base, sites)
        layer.late = len(made) >= 2
        made.append(layer)
        return layer
    return swap(model, "query+value", build)
""", UNMERGED, in_every_run=False),
    "fixed-projection": Mistake(UNSTORED, "save and load", """
class Layer(Low):
    def __init__(self, base, sites):
        super().__init__(base, sites)
        generator = torch.Generator().manual_seed(7)
        self.projection = torch.randn(4, 4, generator=generator)
    def update(self, x):
        return x @ self.a.T @ self.projection @ self.b.T
""", UNMERGED),
    "unstored-buffer": Mistake(UNSTORED, "save and load", """
class Layer(Low):
    def __init__(self, base, sites):
        super().__init__(base, sites)
        self.register_buffer("projection", torch.randn(4, 4, generator=torch.Generator().manual_seed(7)))
    def update(self, x):
        return x @ self.a.T @ self.projection @ self.b.T

def inject(self, model):
    adaptation = low(model, Layer)
    return Adaptation(model, adaptation.params, adaptation.swaps)
""", UNMERGED, in_every_run=False),
    "running-statistic": Mistake(UNSTORED, "save and load", """
class Layer(Low):
    def __init__(self, base, sites):
        super().__init__(base, sites)
        self.mean = torch.ones(())
    def update(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().abs().mean()
        return super().update(x) * self.mean
""", UNMERGED),
    "a-second-pass": Mistake(BUDGET, "shared budget", """
def inject(self, model):
    adaptation = low(model)
    seen = {}
    model.register_forward_pre_hook(lambda module, args, options: seen.update(options), with_kwargs=True)
    def penalty():
        twice = model(**seen).logits
        return 0.0 * twice.sum()
    adaptation.penalty = penalty
    return adaptation
"""),
    "a-teacher": Mistake(BUDGET, "shared budget", """
def inject(self, model):
    teacher = [copy.deepcopy(model).eval()]
    adaptation = low(model)
    seen = {}
    model.register_forward_pre_hook(lambda module, args, options: seen.update(options), with_kwargs=True)
    def penalty():
        with torch.no_grad():
            wanted = teacher[0](**seen).logits
        return 0.0 * wanted.sum()
    adaptation.penalty = penalty
    return adaptation
"""),
    "further-items": Mistake(BUDGET, "shared budget", """
def inject(self, model):
    adaptation = low(model)
    def double(module, args, options):
        if module.training:
            return args, {k: torch.cat([v, v]) if torch.is_tensor(v) else v for k, v in options.items()}
    def halve(module, args, out):
        if module.training:
            out.logits = out.logits[: len(out.logits) // 2]
        return out
    model.register_forward_pre_hook(double, with_kwargs=True)
    model.register_forward_hook(halve)
    return adaptation
"""),
    "another-rate": Mistake(BUDGET, "shared budget", """
def inject(self, model):
    import gc
    adaptation = low(model)
    def after_step(step, steps):
        ours = {id(p) for p in adaptation.params.values()}
        for found in gc.get_objects():
            if type(found) is torch.optim.AdamW:
                for group in found.param_groups:
                    if any(id(p) in ours for p in group["params"]):
                        group["lr"] *= 3
    adaptation.after_step = after_step
    return adaptation
"""),
    "a-second-optimizer": Mistake(BUDGET, "shared budget", """
def inject(self, model):
    adaptation = low(model)
    optimizer = torch.optim.SGD(adaptation.params.values(), lr=0.1)
    adaptation.after_step = lambda step, steps: optimizer.step()
    return adaptation
"""),
    "groups-of-other-names": Mistake(BUDGET, "runs", """
def inject(self, model):
    adaptation = low(model)
    adaptation.groups = {f"{name}.lora_B": 16.0 for name in adaptation.swaps}
    return adaptation
"""),
    "left-in-evaluation": Mistake(TERMS, "equal terms", """
def inject(self, model):
    adaptation = low(model)
    adaptation.after_step = lambda step, steps: model.eval() and None
    return adaptation
"""),
    "no-dropout": Mistake(TERMS, "equal terms", """
def inject(self, model):
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return low(model)
"""),
    "threads-on-import": Mistake(PROCESS, "settings", """
torch.set_num_threads(torch.get_num_threads() + 1)
Layer = Low
"""),
    "precision-in-inject": Mistake(PROCESS, "settings", """
def inject(self, model):
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
    return low(model)
"""),
    "default-dtype-in-forward": Mistake(PROCESS, "settings", """
class Layer(Low):
    def update(self, x):
        torch.set_default_dtype(torch.float64)
        return super().update(x)
"""),
    "functions-on-import": Mistake(PROCESS, "settings", """
gelu = functional.gelu
functional.gelu = lambda x, *more, **options: 1.01 * gelu(x, *more, **options)
nn.Dropout.forward = lambda self, x: x
Layer = Low
"""),
    "reseeds": Mistake(PROCESS, "settings", """
class Layer(Low):
    def update(self, x):
        if self.training:
            torch.manual_seed(0)
        return super().update(x)
"""),
    "draws-in-forward": Mistake(PROCESS, "settings", """
class Layer(Low):
    def update(self, x):
        return super().update(x) + 0 * torch.rand(1)
"""),
    "draws-with-numpy": Mistake(PROCESS, "settings", """
class Layer(Low):
    def update(self, x):
        return super().update(x) * (1 + 0 * np.random.rand())
"""),
    "seedless-but-trains": Mistake(SEEDS, "seed", "Layer = Low\n", ALL + ", seedless=True"),
    "fixed-seed": Mistake(SEEDS, "seed", """
class Layer(Low):
    def __init__(self, base, sites):
        super().__init__(base, sites)
        self.a.data.copy_(torch.randn(self.a.shape, generator=torch.Generator().manual_seed(0)) * 0.02)
"""),
    "fixed-seed-not-claimed": Mistake(SEEDS, "seed", """
class Layer(Low):
    def __init__(self, base, sites):
        super().__init__(base, sites)
        self.a.data.copy_(torch.randn(self.a.shape, generator=torch.Generator().manual_seed(0)) * 0.02)
""", ALL.replace(", random_init=True", ""), in_every_run=False),
    "swaps-unsaid": Mistake(LATENCY, "runs", """
def inject(self, model):
    return Adaptation(model, low(model).params)
"""),
    "hooks-for-good": Mistake(LATENCY, "base unchanged", """
def inject(self, model):
    adaptation = low(model)
    for base, wrapper in adaptation.swaps.values():
        base.register_forward_hook(lambda module, args, out: out + 1)
    return adaptation
""", in_every_run=False),
    "another-attention": Mistake(LATENCY, "runs", """
def inject(self, model):
    model.config._attn_implementation = "eager"
    return low(model)
"""),
    "skipped-while-zero": Mistake(LATENCY, "timed as scored", """
class Layer(Low):
    def forward(self, x):
        out = self.base(x)
        return out + self.update(x) if self.b.requires_grad and self.b.any() or self.training else out
""", in_every_run=False),
}  # fmt: skip
