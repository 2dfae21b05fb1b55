"""From the characters of a sentence to its words; nothing that could be a word is left out."""

from __future__ import annotations

import re
import string
import unicodedata

MAX_CHARACTERS = 400
MAX_WORDS = 48  # an instruction for one motion is far shorter

# What keyboards, phones and transcripts write for plain marks.
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘’ʼ′`´", "'"),
        **dict.fromkeys("“”„«»″", '"'),
        **dict.fromkeys("–—‐‑−", "-"),
        "…": ".",
        "&": " and ",
        "→": " to ",
    }
)
_ARROW = re.compile(r"[-=]+>")
_STRETCH = re.compile(r"([a-z])\1{2,}")  # "pleeease"
_SMILE = re.compile(r":-?\)")
_ASIDE = re.compile(r"\(([^()]*)\)")  # read like what stands between commas
_CALLED = re.compile(r", ?robot ?,")  # without the commas it may be "the red ball robot"
_LETTERS = string.ascii_lowercase + "'"
_MARKS = re.compile(r"[.,;:!?\-\"]")
_SHORT = {
    "'d": "would", "'ll": "will", "'re": "are", "'ve": "have", "'m": "am",
}  # fmt: skip
_IS = (
    "it",
    "that",
    "there",
    "here",
    "where",
    "what",
    "how",
)  # 's is "is" behind these, a possessive elsewhere
_WRITTEN = {
    "teh": "the", "cud": "could", "coud": "could", "culd": "could", "woud": "would", "cld": "could", "wud": "would", "wld": "would", "pls": "please", "pleas": "please", "plase": "please", "plese": "please", "pleae": "please", "plz": "please", "plse": "please", "thx": "thanks", "u": "you", "ur": "your",
    "ya": "you", "thats": "that is", "wheres": "where is", "youre": "you are", "let's": "lets", "wanna": "want to", "gotta": "got to", "heres": "here is",
    "ill": "i will", "colour": "color", "coloured": "colored", "colours": "colors", "favour": "favor", "favourite": "favorite",
    "yuo": "you", "hte": "the", "tge": "the", "thr": "the", "onthe": "on the", "tothe": "to the", "inthe": "in the",
}  # fmt: skip
_MEANS_WOULD = ("like", "love", "prefer", "appreciate", "be", "want", "rather", "need")  # behind "id"


class UnreadableError(ValueError):
    """A sentence with characters that are no English text; the message says which."""


def plain(sentence: str) -> str:
    """`sentence` in lower case, with plain marks and single spaces.

    Raises:
        UnreadableError: it holds control or invisible characters, another script, or marks that are none of a sentence.
    """
    text = "".join(
        " " if character in "\t\n\r" or unicodedata.category(character) == "Zs" else character
        for character in sentence.translate(_PLAIN)
    )
    text = _ASIDE.sub(r" , \1 , ", _SMILE.sub(" ", _ARROW.sub(" to ", text)))
    for character in text:
        if not (character.isascii() and (character.isalnum() or character in " .,;:!?-'\"")):
            raise UnreadableError(f"the instruction holds {_named(character)}; write it in plain letters")
    text = _STRETCH.sub(r"\1\1", " ".join(text.lower().split()))
    text = _CALLED.sub(",", text)
    # A whole sentence in quotation marks was copied; marks inside it quote somebody.
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    if '"' in text:
        raise UnreadableError("the instruction quotes something; say it without quotation marks")
    return text


def words_of(text: str) -> list[str]:
    """The words of plain text, short forms written out; hyphens and punctuation part words."""
    words: list[str] = []
    parts = _MARKS.sub(" ", text).split()
    for index, part in enumerate(parts):
        following = parts[index + 1] if index + 1 < len(parts) else ""
        if part == "id" and following in _MEANS_WOULD:
            words += ["i", "would"]
        elif part in _WRITTEN:
            words += _WRITTEN[part].split()
        elif part.endswith("'s") and part[:-2] in _IS:
            words += [part[:-2], "is"]
        elif part.endswith("'s") and len(part) > 3:
            words += [part[:-2], "'s"]
        else:
            stem, mark, ending = part.partition("'")
            short = _SHORT.get(mark + ending)
            words += [stem, short] if stem and short else [part]
    return words


def one_letter_from(word: str) -> frozenset[str]:
    """Every word that one letter added, taken away, changed or swapped with its neighbour makes of `word`."""
    cuts = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    return frozenset(
        [head + tail[1:] for head, tail in cuts if tail]
        + [head + tail[1] + tail[0] + tail[2:] for head, tail in cuts if len(tail) > 1]
        + [head + letter + tail[1:] for head, tail in cuts if tail for letter in _LETTERS]
        + [head + letter + tail for head, tail in cuts for letter in _LETTERS]
    ) - {word}


def slipped(written: str, meant: str) -> bool:
    """Whether the keyboard made `written` of the longer word `meant`: two letters swapped, a letter doubled or not.

    Such slips hardly ever make another English word.
    """
    if len(meant) < 3 or written[:1] != meant[:1]:
        return False
    if len(written) == len(meant):
        wrong = [i for i, (a, b) in enumerate(zip(written, meant, strict=True)) if a != b]
        return (
            len(meant) > 3
            and len(wrong) == 2
            and wrong[1] == wrong[0] + 1
            and written[wrong[0]] == meant[wrong[1]]
            and written[wrong[1]] == meant[wrong[0]]
        )
    short, long = sorted((written, meant), key=len)
    if len(long) != len(short) + 1:
        return False
    doubled = {
        long[i] for i in range(len(short)) if long[i] == long[i + 1] and long[:i] + long[i + 1 :] == short
    }
    # "ballp" and "rred" are no words; "reed", "too" and "of" are.
    return bool(doubled) if len(meant) > 4 else long == written and bool(doubled - {"e", "o"})


def distance(a: str, b: str, most: int) -> int:
    """Letters to add, take away, change or swap with their neighbour, to make `b` of `a`; `most` + 1 for any more."""
    if abs(len(a) - len(b)) > most:
        return most + 1
    before, row = [0] * (len(b) + 1), list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        earlier, before, row = before, row, [i]
        for j, y in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
    return row[-1]


def _named(character: str) -> str:
    name = unicodedata.name(character, "")
    code = f"U+{ord(character):04X}"
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Mn", "Zl", "Zp"):
        return f"the character {code}{f' ({name})' if name else ''}"
    return f"{character!r} ({code}{f', {name}' if name else ''})"
