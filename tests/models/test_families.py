"""Which decoder families of the installed transformers are refused: a new one is looked at, not found out by a user."""

from __future__ import annotations

import transformers

from peftbench.models.roles import ALL_LINEAR

from ..support.families import FAMILIES, asked, without_weights

# Several stacks of blocks, of which none is the model's alone; or no blocks that are alike.
REFUSED = {
    "blt", "gemma3", "git", "got_ocr2", "hrm_text", "mllama", "moss_transcribe_diarize", "olmo_hybrid", "phi4_multimodal", "xlm", "zamba",
}  # fmt: skip


def test_every_family_has_linear_layers_in_one_stack_of_blocks_or_stands_here() -> None:
    transformers.logging.set_verbosity_error()
    refused, made = {}, 0
    for family in FAMILIES:
        try:
            model = without_weights(family)
        except Exception:  # noqa: BLE001, S112  whatever a config without a checkpoint's values raises
            continue
        made += 1
        if isinstance(found := asked(model, ALL_LINEAR), str):
            refused[family] = found
    assert made > 100 and set(refused) == REFUSED & set(FAMILIES)
    assert all("has no known roles and" in said for said in refused.values())
