"""An instruction as the tokens of a vision-language model, by the tokenizer in its bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from physai_base.errors import PolicyError

TOKENIZER = "tokenizer.json"
MAX_TOKENS = 100_000
PADDING = -1  # stands after the last token, so that every prompt is as long; no token has that number


class Prompt:
    """PaliGemma's prompt: a token for each piece of each image, `begin`, the instruction, a line's end.

    `config`: `image`, `begin` (tokens as text), `image_tokens` (of all images together), `text_tokens` (room for the rest),
    `vocabulary` (tokens that the model knows, those of images apart).
    """

    def __init__(self, tokenizer: bytes, config: Mapping[str, Any]) -> None:
        """Read the tokenizer, the text of a tokenizer.json.

        Raises:
            KeyError: `config` lacks something.
            ValueError: the tokenizer cannot be read, or lacks a token.
        """
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_str(tokenizer.decode())
        except Exception as error:  # tokenizers raises Exception itself
            raise ValueError(f"{TOKENIZER} cannot be read: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._image, self._begin = str(config["image"]), str(config["begin"])
        self._image_tokens, self._text_tokens = int(config["image_tokens"]), int(config["text_tokens"])
        self._vocabulary = int(config["vocabulary"])
        image_token, begin = (self._tokenizer.token_to_id(text) for text in (self._image, self._begin))
        if image_token is None or begin is None:
            raise ValueError(f"{TOKENIZER} must have the tokens {self._image} and {self._begin}")
        if not (0 < self._image_tokens <= MAX_TOKENS and 0 < self._text_tokens <= MAX_TOKENS):
            raise ValueError(f"a prompt has from 1 to {MAX_TOKENS} tokens of images and as many of text")
        self.image_token: int = image_token
        try:
            self._last = "", self._encoded("")
        except PolicyError as error:
            raise ValueError(f"{TOKENIZER} does not keep {self._image} and {self._begin} whole") from error

    @property
    def length(self) -> int:
        """Of every prompt, padding and all."""
        return self._image_tokens + self._text_tokens

    def tokens(self, instruction: str) -> np.ndarray:
        """(L,) int64, PADDING after the last.

        Raises:
            PolicyError: the instruction is too long, or holds a token that has a meaning of its own.
        """
        if instruction != self._last[0]:  # which rarely changes while a task runs
            self._last = instruction, self._encoded(instruction)
        return self._last[1]

    def _encoded(self, instruction: str) -> np.ndarray:
        # All in one, as transformers does it: a tokenizer may treat the beginning of a text in a way of its own.
        text = f"{self._image * self._image_tokens}{self._begin}{instruction}\n"
        found = np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, np.int64)
        text_tokens = len(found) - self._image_tokens
        if text_tokens > self._text_tokens:
            raise PolicyError(
                f"the instruction has {text_tokens} tokens, the model takes {self._text_tokens}; say it shorter"
            )
        images, words = np.split(found, [self._image_tokens])
        if (images != self.image_token).any() or (
            (words == self.image_token) | (words >= self._vocabulary)
        ).any():
            raise PolicyError(
                f"the instruction holds {self._image} or another token that the model does not take as a word"
            )
        return np.pad(found, (0, self.length - len(found)), constant_values=PADDING)
