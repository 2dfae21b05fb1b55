"""Names of colours, by the basic colour that a person means by them."""

from __future__ import annotations

# What anybody calls by the basic colour, and what many would, but not all: that is asked back.
COLOURS: dict[str, tuple[str, str]] = {
    "red": (
        "red, reddish, crimson, scarlet, ruby, vermilion, carmine, blood red, brick red, "
        "cherry red, ruby red, fire engine red, post box red, pillar box red, tomato red, strawberry red, "
        "apple red, fire red, lipstick red, rose red, "
        "wine red, poppy red, signal red",
        "burgundy, maroon, oxblood, garnet, claret, cranberry, raspberry, brick, wine, "
        "blood, cherry, cardinal, tomato, strawberry",
    ),
    "green": (
        "green, greenish, emerald, lime green, forest green, grass green, leaf green, bottle "
        "green, moss green, sea green, "
        "mint green, olive green, pine green, apple green, fern green, kelly green, jungle green, "
        "emerald green, jade green, racing green, "
        "jade",
        "mint, olive, sage, shamrock, moss, fern, pistachio, avocado, chartreuse, pea, pea green, bottle, lime, grass",
    ),
    "blue": (
        "blue, bluish, navy, navy blue, azure, sapphire, cobalt, cobalt blue, ultramarine, sky blue, "
        "royal blue, baby blue, "
        "midnight blue, ocean blue, marine blue, steel blue, denim blue, electric blue, ice blue, sea "
        "blue, ink blue, cornflower blue, "
        "azure blue, sapphire blue, powder blue",
        "cornflower, cerulean, denim, sky, midnight, indigo, ocean",
    ),
    "yellow": ("yellow, yellowish, lemon yellow, canary yellow, sunflower yellow, sun yellow", "mustard, canary, amber, lemon"),
    "orange": ("orange", "tangerine, pumpkin, apricot, peach, rust, carrot"),
    "purple": ("purple, violet, royal purple", "lilac, lavender, mauve, plum, amethyst, aubergine, eggplant, indigo"),
    "pink": ("pink, hot pink, rose pink, salmon pink", "rose, salmon, fuchsia"),
    "brown": ("brown, brownish, chocolate brown, chestnut brown", "chocolate, chestnut, tan, bronze, copper, coffee"),
    "black": ("black, jet black, pitch black", "charcoal, ebony, onyx"),
    "white": ("white, snow white, milky white", "ivory, cream, eggshell, pearl"),
    "grey": ("grey, gray, greyish, grayish, slate grey, slate gray", "charcoal, slate, silver"),
    "golden": ("golden, gold", "brass"),
    "silver": ("silver, silvery", "chrome"),
}  # fmt: skip

# Of no basic colour alone, or no colour at all.
OTHERS = (
    "teal, turquoise, magenta, cyan, aqua, aquamarine, beige, khaki, coral, periwinkle, "
    "transparent, clear, striped, "
    "spotted, checkered, chequered, rainbow, multicoloured, multicolored, colourless, colorless, taupe"
)

SHADES = (
    "bright, dark, light, deep, pale, vivid, strong, intense, rich, plain, clear, pure, bold, soft, medium, "
    "nice, brilliant, pastel"
)


def names(text: str) -> tuple[str, ...]:
    """The names in a list by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def all_colours() -> frozenset[str]:
    """Every single word that names a colour."""
    lists = [text for pair in COLOURS.values() for text in pair] + [OTHERS]
    return frozenset(name for text in lists for name in names(text) if " " not in name)
