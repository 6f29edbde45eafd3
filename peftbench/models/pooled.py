"""An encoder that classifies by the mean of its tokens."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput


class MeanPooledClassifier(nn.Module):
    """An encoder, a mean over its real tokens, dropout and one linear layer.

    For checkpoints that say they are pooled by their mean (sentence-transformers' `1_Pooling`), and for those that
    bring no pooler: a freshly drawn one needs longer to train than a small budget has.
    """

    def __init__(self, backbone: Any, outputs: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.config: Any = backbone.config
        # OPT-350M's last layer makes its states narrower.
        width = getattr(self.config, "word_embed_proj_dim", self.config.hidden_size)
        self.dropout = nn.Dropout(getattr(self.config, "hidden_dropout_prob", 0.0))
        self.classifier = nn.Linear(width, outputs, device=next(backbone.parameters()).device)

    @property
    def base_model(self) -> nn.Module:
        """The encoder, by the name that the library's own models give it."""
        backbone: nn.Module = self.backbone
        return backbone

    def pooled(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """The mean of the last hidden states over real tokens.

        Args:
            input_ids: (batch, length).
            attention_mask: (batch, length), 1 for real tokens.

        Returns:
            (batch, width)
        """
        extra = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **extra).last_hidden_state
        mask = attention_mask[..., None].to(hidden.dtype)
        mean: Tensor = (hidden * mask).sum(1) / mask.sum(1)
        return mean

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Logits (batch, outputs) of tokens (batch, length)."""
        pooled = self.pooled(input_ids, attention_mask, token_type_ids)
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(pooled)))
