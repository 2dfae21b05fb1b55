"""A grammar of instructions for the cups task, with their meaning, and of what must be refused.

Words and templates are dealt to three splits: a sentence of the validation or test split contains at least
one word or one template that no training sentence contains.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from physai_policy.language import DO, MISSING, NEGATED, OTHER, SEVERAL

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Sentence:
    """A sentence and what it means; None where a slot means nothing."""

    text: str
    action: str  # "do", "negated" or "other"
    target: str | None
    destination: str | None
    family: str  # which part of the grammar made it

    @property
    def valid(self) -> bool:
        """Whether it asks for one motion that the task has."""
        named = not {self.target, self.destination} & {None, MISSING, OTHER, SEVERAL}
        return self.action == DO and named


def _items(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.strip().split("|"))


class _Pool:
    """Words or templates: the core is in every split, the rest is dealt out, one in seven to each held-out split."""

    def __init__(self, core: str, rest: str = "") -> None:
        self.core = _items(core) if core else ()
        self.dealt: dict[str, list[str]] = {split: [] for split in SPLITS}
        for i, item in enumerate(_items(rest) if rest else ()):
            self.dealt[{3: "validation", 6: "test"}.get(i % 7, "train")].append(item)

    def draw(self, speaker: _Speaker) -> str:
        """One word that the speaker's split may use."""
        novel = self.dealt[speaker.split] if speaker.split != "train" else []
        if novel and speaker.random.random() < 0.12:
            speaker.novel = True
            return speaker.random.choice(novel)
        # Plain words are what people say most.
        common = self.core and speaker.random.random() < 0.35
        return speaker.random.choice(self.core if common else (*self.core, *self.dealt["train"]))


COLOURS = {
    "red": _Pool("red|crimson|ruby|scarlet", "bright red|dark red|cherry red|tomato-red|deep red|fire-engine red|ruby red|blood-red|vermilion|"
                 "strong red|carmine|pale red|brick-red|light red|cherry|flaming red|poppy red|cardinal red|reddish|apple-red|signal red|"
                 "crimson red|rose-red|scarlet red|vivid red|plain red|post-box red|lipstick red|fully red|clear red|strawberry-red|bold red"),
    "green": _Pool("green|emerald|jade|lime green", "bright green|dark green|forest green|grass-green|deep green|olive green|emerald green|leaf-green|"
                   "mint green|strong green|moss green|pale green|pine-green|light green|apple green|sea green|greenish|bottle-green|jade green|"
                   "fern green|shamrock|vivid green|plain green|grassy green|lawn green|fully green|clear green|frog-green|jungle green|bold green"),
    "blue": _Pool("blue|navy|azure|sapphire", "bright blue|cobalt|dark blue|navy blue|sky-blue|deep blue|royal blue|ocean-blue|ultramarine|strong blue|"
                  "cobalt blue|pale blue|denim-blue|light blue|azure blue|sapphire blue|bluish|baby-blue|midnight blue|marine blue|steel blue|"
                  "vivid blue|plain blue|electric blue|sea-blue|fully blue|clear blue|cornflower-blue|ink blue|bold blue|ice-blue"),
}  # fmt: skip
CUP = _Pool("cup|mug", "tumbler|beaker|glass|drinking cup|plastic cup|drinking glass|coffee cup|goblet|tea cup|teacup|coffee mug|"
            "drinking vessel|water glass|plastic mug|paper cup|coffee beaker")  # fmt: skip
BOARD = _Pool("shelf|level|board", "shelf board|rack|tier|ledge|shelf level|plank|storey of the shelf|row of the shelf|"
              "deck|step|shelf tier|shelf plank|part of the shelf")  # fmt: skip
PLACES = {
    "top": _Pool(
        "top|upper|highest|higher|second", "2nd|upmost|high|topmost|more elevated|top-most|uppermost"
    ),
    "bottom": _Pool(
        "bottom|lower|lowest|first", "1st|undermost|low|bottommost|bottom-most|lower-most|lowermost"
    ),
}
PUT = _Pool("put|place|set|move|bring", "lift|transfer|position|carry|deposit|stash|store|lay|park|stow|pop|relocate|shift|rest|stick|"
            "situate|transport|arrange|plop|deliver|install|settle|lodge")  # fmt: skip
TAKE = _Pool(
    "take|pick up", "grab|grasp|get|fetch|lift|pick|collect|seize|take hold of|get hold of|grip|snatch"
)
PREFIX = _Pool("|please", "could you|can you please|would you|robot,|hey robot, please|I want you to|I'd like you to|now|would you mind and|"
               "can you|kindly|next,|you should|your job is to|let's|go ahead and|I need you to|the task is to|"
               "okay,|would you be so kind as to|may I ask you to|we need you to|alright, now|time to")  # fmt: skip
SUFFIX = _Pool("|.|please", "now|, please|, thanks|!|right away|for me|carefully|, thank you|gently|as soon as you can|, would you|immediately|"
               ", if you please|slowly|, robot|without spilling|, my friend|when you are ready")  # fmt: skip
SIZE = _Pool("", "little|small|shiny|plastic|nice|empty|pretty|smooth|lovely|round|tall|lonely")

# What the task does not have. A wrong colour, thing or place is refused however it is dressed.
OTHER_COLOUR = _Pool("purple|yellow|black|white|orange|pink|brown|grey|cyan|teal|turquoise|magenta|violet",
                     "golden|silver|beige|lilac|bright yellow|mauve|tan|transparent|dark purple|cream-coloured|amber|lavender|light brown|indigo|"
                     "bronze|rainbow|striped|pale pink|gold|peach|colourless|ivory|snow-white|copper|salmon-coloured|charcoal|mustard|jet-black|"
                     "plum-coloured|fuchsia|khaki|checkered|deep orange|wooden|aquamarine|lemon-yellow|rose|coral|sand-coloured|dark grey|aqua|"
                     "burgundy|chocolate brown|maroon|hot pink|strong violet|periwinkle|pitch-black|chartreuse|metal|spotted|light purple|glittering|"
                     "royal purple|pale yellow|clear|tangerine|sunflower yellow|multicoloured|milky white|rust-coloured|dusty pink|wine-coloured")  # fmt: skip
OTHER_THING = _Pool("ball|plate|book", "block|bottle|banana|apple|spoon|bowl|phone|pen|toy|cube|box|can|knife|hat|car|shirt|flower|vase|chair|"
                    "lamp|key|jar|towel|hammer|brick|pencil|screwdriver|shoe|fork|sponge|candle|balloon|card|pillow|laptop|"
                    "teapot|pan|jug|bag|marker|cat|dog|shelf|table|robot|battery|umbrella|bread|egg|carrot|ring")  # fmt: skip
OTHER_PLACE = _Pool(
    "on the moon|on the floor|on the table|in the sink|in the drawer|on the middle shelf",
    "on the left|in the bin|in the box|on the chair|under the table|in the fridge|on the roof|in the oven|on the desk|into the dishwasher|"
    "on the third shelf|in the kitchen|on my head|outside|in the cupboard|on the left shelf|on the window sill|behind the shelf|"
    "under the shelf|next to the shelf|beside the shelf|in front of the shelf|on the middle level|on the fifth level|on the sofa|"
    "in the top drawer|in the bottom drawer|on the top floor|on the bed|in the trash|on the ground|upside down|in my hand|on the plate|"
    "on the counter|in the washing machine|on the tray|into the garden|on the ceiling|on the bottom of the sea|on top of the fridge|"
    "in the upper cabinet|under the top shelf|below the top shelf|next to the bottom shelf|beneath the lower board|beside the top shelf|"
    "behind the upper shelf|above the top shelf|in front of the bottom shelf|under the bottom shelf|in the lower cupboard|on mars|"
    "on the top of the car|into the basket|to the neighbour|on the right|on the fourth shelf|in the middle|near the top shelf|"
    "on the central shelf|on the bookcase next door|in the basement|on the top bunk|on the first floor|to the left of the shelf|"
    "in your pocket|over there|back where it was|on the red shelf|on the blue board|upstairs|on the lower table|on the top of the hill",
)  # fmt: skip
# Prepositions are few: none is held out.
BESIDE = _items(
    "under|below|beneath|underneath|behind|beside|next to|near|above|in front of|far from|to the left of|against|between|around|inside"
)
FURNITURE = _Pool("chair|table|drawer|floor|hill|bed", "stairs|cupboard|desk|bench|sofa|window|house|box|bag|page|fridge|oven|mountain|car|list|sea|tree|garden|"
                  "wardrobe|cabinet|ladder|tray|roof|bus|lake|building|stool|carpet|bucket|basket|street|counter|piano|tower|plate|door|trolley|suitcase")  # fmt: skip
NUMBER = _Pool(
    "third|middle|left|right|fourth",
    "fifth|central|next|last|other|outer|sixth|wrong|tenth|same|intermediate|neighbouring|previous|back|rear|0th|3rd|inner",
)
OTHER_VERB = _Pool("throw|break|look at|push over", "smash|paint|kick|count|photograph|wash|drop|sell|knock over|tip over|spin|shake|describe|"
                   "hide|burn|eat|ignore|touch|find|cut|squeeze|melt|lick|measure|point at|crush|bite|fill|hit|inspect|rotate|weigh|wave|"
                   "turn over|remove|clean|hurl|juggle|fling|draw|slap|empty|punch|admire|dismantle|toss")  # fmt: skip
NEGATION = _Pool("do not {}|don't {}|never {}", "you must not {}|please do not {}|under no circumstances {}|avoid to {}|I don't want you to {}|"
                 "you should not {}|dont {}|refuse to {}|it is forbidden to {}|no need to {}|stop! do not {}|make sure not to {}|"
                 "you shouldn't {}|please don't {}|whatever you do, don't {}|you may not {}|by no means {}|can you not {}")  # fmt: skip

# {c}: the cup, {p}: "on the top shelf", {n}: "the top shelf", {v}: put, {t}: take, {a}/{z}: politeness around it.
TEMPLATES = _Pool(
    "{a} {v} {c} {p} {z}|{a} {t} {c} and {v} it {p} {z}|{v} {c} {p} {z}|{v} {c} {p}",
    "{p} {v} {c} {z}|{c} goes {p} {z}|{c} belongs {p}|{c} should be {p}|I want {c} {p} {z}|{c} {p} {z}|{c} to {n}|"
    "I would like to have {c} {p} {z}|{a} {t} {c} from the table and {v} it {p} {z}|{a} {v} {c} from the table {p}|"
    "{n} is where {c} should go {z}|{n} is the place for {c}|make sure that {c} ends up {p}|{c} needs to be {p} {z}|"
    "see to it that {c} stands {p}|have {c} moved {p}|get {c} {p} {z}|{c} has to go {p} {z}|I need {c} {p} {z}|let {c} stand {p}|"
    "{a} {v} {c} {p}, it belongs there|we want {c} to be {p}|{a} {t} {c}, then {v} it {p} {z}|{a} {v} onto {n} {c}|"
    "{a} {t} {c} and {v} that one {p}|what I want is {c} {p}|{a} {v} {c}, which is on the table, {p}|{c}: {n}|{a} {v} {c} up {p}|"
    "it would be great if {c} was {p}|{a} find {c} and {v} it {p} {z}|there is {c} on the table, {v} it {p}|"
    "{a} use your gripper to {v} {c} {p}|{a} {v} {c} over {p}|{c} must stand {p} {z}|{a} make {c} sit {p} {z}|"
    "{a} {v} {c} down {p} {z}|{a} move your arm and {v} {c} {p}|could {c} be put {p}|how about you {v} {c} {p}|"
    "{c}, I want it {p}|{a} reach for {c} and {v} it {p}|{p} is where I want {c}|I think {c} would look good {p}|{n} is where I want {c}|{n} for {c} {z}|{v} {c}, and make sure it is {p}",
)  # fmt: skip
QUESTION = _Pool(
    "is {c} {p}?|where is {c}?|I put {c} {p} yesterday|{c} is {p}",
    "why did you put {c} {p}?|who put {c} {p}?|how many cups are {p}?|what colour is {c}?|was {c} ever {p}?|{c} was {p} before|"
    "tell me about {c} {p}|look at {c} {p}|take {c} off {n}|remove {c} from {n}|{c} has fallen off {n}|do you see {c} {p}?|"
    "did you put {c} {p}?|someone has moved {c} {p}|have you ever seen {c} {p}?|if it rains, {v} {c} {p}|tomorrow {v} {c} {p}|"
    "what happens if you {v} {c} {p}?|I like {c} {p}|pretend to {v} {c} {p}|{v} {c} {p} and sing a song|{v} {c} {p} and then dance|"
    "fill {c} with water and put it {p}|explain how to {v} {c} {p}|she puts {c} {p}|{v} {c} {p} and break it|imagine {c} {p}|"
    "take {c} away from {n}|{v} {c} {p}, then throw it away|{c} looks great {p}|wash {c} and put it {p}|write a poem about {c} {p}|"
    "throw {c} {p}|drop {c} from {n}|how would you put {c} {p}?|I have already put {c} {p}|hand me {c}|give me {c} {p}|hold {c}|"
    "bring me {c} from {n}|take a picture of {c} {p}|get rid of {c} {p}|{v} {n} on {c}|{v} the table {p} next to {c}|knock {c} off {n}|"
    "swap {c} and {n}|empty {c} {p}|paint {c} {p}|they moved {c} {p}|the weather is like {c} {p}|{v} {c} {p} when I am back|"
    "is there a reason that {c} stands {p}?|draw {c} {p}|count to ten and {v} {c} {p}|push {c} over {p}|forget about {c} {p}|take {c} down from {n}|"
    "get {c} down from {n}|lift {c} off {n}|fetch {c} from {n}|{t} {c} from {n}|{t} {c}|pull {c} off {n}|{t} {c} and hold it",
)  # fmt: skip
EXCEPT = _Pool("{v} anything but {c} {p}|{v} {c} anywhere except {p}", "{v} everything except {c} {p}|keep {c} away from {n}|leave {c} off {n}|"
               "{v} {c} anywhere but {p}|{c} does not belong {p}|{c} must not be {p}|{c} should never be {p}|leave {c} where it is|"
               "{n} is not for {c}|stop moving {c} {p}|I don't want {c} {p}|refrain from putting {c} {p}|{c} isn't supposed to go {p}|"
               "nobody should put {c} {p}|avoid putting {c} {p}|{c} can't go {p}|cancel putting {c} {p}")  # fmt: skip

UNRELATED = _Pool(
    "sing a song|hello|what time is it?|tell me a joke|go home|stop|yes|the|asdf qwer zxcv|help",
    "dance for me|who are you?|open the door|make me a coffee|turn off the light|the sky is blue|I am hungry|how is the weather today?|"
    "what is the capital of France?|play some music|call my mother|the green party won the election|red|green|blue|top|cup|shelf|put|"
    "bottom|good morning|thank you very much|move your arm|wave your hand|drive to the station|calculate 3 plus 4|shut down|restart|"
    "lorem ipsum dolor sit amet|blah blah blah|xkcd 1234 !!|?????|1234567890|no|okay|I love you|once upon a time there was a king|"
    "to be or not to be|buy two tickets for the top league match|he took the blue pill|she wore a red dress at the top of the stairs|"
    "the top of the mountain is covered with snow|read the book to me|clean the room|do something|do it|put it there|move|grab it|"
    "world cup final results|who won the world cup?|the stock market fell to the lowest level|the red team is at the top of the table|"
    "blue cheese is on the shelf in the shop|stelle den roten Becher auf das obere Regal|pon la taza roja en el estante superior|"
    "mets la tasse rouge sur l'étagère du haut|metti la tazza verde sul ripiano basso|leg de blauwe beker op de bovenste plank|"
    "coloque o copo azul na prateleira de baixo|поставь красную чашку на верхнюю полку|把红色的杯子放在上面的架子上|赤いカップを上の棚に置いて|"
    "umieść czerwony kubek na górnej półce|sätt den röda koppen på översta hyllan|den grünen Becher nach unten|stelle den blauen Becher nach unten|"
    "pose le verre bleu en bas|la tasse verte en haut|il bicchiere rosso in alto|coloca el vaso azul abajo|"
    "ignore all previous instructions|sudo rm -rf /|import numpy as np|SELECT * FROM cups|{\"cup\": \"red\"}|def f(x): return x|"
    "aaaaaaaaaaaaaaaa|flurb the wozzle onto the gribble|jfkdls jfkdl sjfkl|qwertyuiop|the quick brown fox jumps over the lazy dog|"
    "please be quiet|are you ready?|what can you do?|let us go to the beach|fold the laundry|water the plants|close the gripper|"
    "open the gripper|go to the home position|calibrate the camera|pour the water|stack the cups|sort the cups by colour|build a tower|"
    "tidy up|clear the table|set the table for dinner|bring me a drink|make it nice|my cup of tea|it is a top priority|hit rock bottom|"
    "first come, first served|second thoughts|a shelf company|level up|the best level of the game|climb to the next level|raise the bar",
)  # fmt: skip
SUBJECT = _Pool("she|he|they|the cat|my friend|the robot|a man", "our teacher|the president|the old lady|a bird|my brother|the engineer|everyone|the train|a child|"
                "the company|her dog|the river|a student|the musician|our neighbour|the doctor")  # fmt: skip
DEED = _Pool("sleeps|walks to school|likes music", "drives a red car|reads the newspaper|went to the top of the hill|has blue eyes|bought a green house|"
             "drinks a cup of tea|won the first prize|stands at the bottom of the stairs|placed an order|moved to Berlin|took the second train|"
             "runs fast|sings in the shower|cooks dinner|wrote a book|set a new record|left early|lives on the second floor|paints the wall green|"
             "puts money in the bank|plays football|fixed the lower window|feels blue|is in the red|shelved the project|raised the upper limit")  # fmt: skip


class _Speaker:
    """Says sentences of one split."""

    def __init__(self, split: str, seed: int) -> None:
        self.split = split
        self.random = random.Random(f"{split} {seed}")
        self.novel = False

    def say(self, template: str, cup: str = "", place: str = "") -> str:
        """Fill a template and dress it like a person would."""
        # "the top shelf" of "on the top shelf", but "under the top shelf" stays: it is another place.
        name = re.sub(r"^(on to|on|onto|to|at|upon) (?=the )", "", place)
        text = template
        for key, make in (("{a}", PREFIX), ("{z}", SUFFIX), ("{v}", PUT), ("{t}", TAKE)):
            while key in text:
                text = text.replace(key, make.draw(self), 1)
        text = text.replace("{c}", cup).replace("{p}", place).replace("{n}", name)
        text = " ".join(text.split())
        for mark in ".,!?":
            text = text.replace(f" {mark}", mark)
        text = text.replace(",,", ",").lstrip(",. ")
        style = self.random.random()
        asks = text.startswith(("can ", "could ", "would ", "may ", "how about "))
        if asks and self.random.random() < 0.6:
            text = text.rstrip(".!") + "?"
        if style < 0.35:
            return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
        return text.upper() if style > 0.98 else text.replace(",", "") if style > 0.85 else text

    def cup(self, colour: str, thing: str | None = None) -> str:
        """A phrase for the cup of that colour."""
        thing = thing or CUP.draw(self)
        style = self.random.random()
        size = SIZE.draw(self) + " " if self.random.random() < 0.12 else ""
        if style < 0.07:
            return f"the {colour} one"
        if style < 0.13:
            return f"the {size}{thing} that is {colour}"
        if style < 0.17:
            return f"the {size}{thing} with the {colour} colour"
        if style < 0.20:
            return f"the {size}{thing} in {colour}"
        return f"{'my ' if style > 0.98 else 'that ' if style > 0.96 else 'the '}{size}{colour} {thing}"

    def place(self, level: str) -> str:
        """A phrase for that level, with its preposition."""
        word, board = PLACES[level].draw(self), BOARD.draw(self)
        on = self.random.choice(("on", "on", "onto", "to", "at", "on to", "upon"))
        style = self.random.random()
        if style < 0.08 and word in ("top", "bottom"):
            return f"{on} the {word}"
        if style < 0.16 and word in ("top", "bottom"):
            return self.random.choice(
                (
                    f"at the {word} of the shelf",
                    f"on the {word} of the shelf",
                    f"on the {word} level of the shelf",
                )
            )
        if style < 0.22:
            return f"{on} the {word} of the two {self.random.choice(('shelves', 'boards', 'levels'))}"
        if style < 0.28:
            number = {"top": ("two", "2"), "bottom": ("one", "1")}[level]
            return f"{on} {self.random.choice(('shelf', 'level', 'shelf number', 'level number'))} {self.random.choice(number)}"
        if style < 0.34:
            return f"{on} the {word} {board} of the {self.random.choice(('shelf', 'rack', 'shelving unit', 'bookshelf'))}"
        if style < 0.38:
            return f"{on} the shelf {'above' if level == 'top' else 'below'}"
        return f"{on} the {word} {board}"


COLOUR_NAMES = tuple(COLOURS)
LEVELS = {"top": "top_shelf", "bottom": "bottom_shelf"}


def _label(colour: str) -> str:
    return f"{colour}_cup"


def _valid(s: _Speaker) -> Sentence:
    colour, level = s.random.choice(COLOUR_NAMES), s.random.choice(tuple(LEVELS))
    cup, place = s.cup(COLOURS[colour].draw(s)), s.place(level)
    template, style = TEMPLATES.draw(s), s.random.random()
    if style < 0.04:  # where it comes from does not matter
        cup += f" from the {PLACES['bottom' if level == 'top' else 'top'].draw(s)} {BOARD.draw(s)}"
    elif style < 0.08:
        other = s.random.choice([c for c in COLOUR_NAMES if c != colour])
        cup += (
            f" {s.random.choice(('next to', 'beside', 'to the left of', 'behind', 'near'))} the {other} one"
        )
    return Sentence(s.say(template, cup, place), DO, _label(colour), LEVELS[level], "valid")


def _other_target(s: _Speaker) -> Sentence:
    level, style = s.random.choice(tuple(LEVELS)), s.random.random()
    if style < 0.55:
        cup = s.cup(OTHER_COLOUR.draw(s))
    elif style < 0.85:
        colour = COLOURS[s.random.choice(COLOUR_NAMES)].draw(s) + " " if s.random.random() < 0.6 else ""
        cup = f"the {colour}{OTHER_THING.draw(s)}"
    else:
        first, second = s.random.sample(COLOUR_NAMES, 2)
        cup = s.random.choice((f"the {first} and {second} striped cup", f"the {first}-{second} cup", f"the half {first} half {second} mug",
                               f"the {first} lid of the cup", f"the {first} cup's handle", f"the spoon in the {first} cup"))  # fmt: skip
    return Sentence(s.say(TEMPLATES.draw(s), cup, s.place(level)), DO, OTHER, LEVELS[level], "other target")


def _other_place(s: _Speaker) -> Sentence:
    colour = s.random.choice(COLOUR_NAMES)
    place, style = OTHER_PLACE.draw(s), s.random.random()
    if style < 0.25:  # beside or under a level is not on it
        preposition = s.random.choice(BESIDE)
        place = (
            preposition
            + " the "
            + s.place(s.random.choice(tuple(LEVELS))).split(" ", 1)[1].removeprefix("the ")
        )
        s.novel = s.novel or s.random.random() < 0.3
    elif style < 0.5:
        place = s.random.choice((
            f"on the {PLACES[s.random.choice(tuple(LEVELS))].draw(s)} {FURNITURE.draw(s)}",
            f"{s.random.choice(('on', 'at', 'to'))} the {s.random.choice(('top', 'bottom'))} of the {FURNITURE.draw(s)}",
            f"on top of the {FURNITURE.draw(s)}",
            f"on the {NUMBER.draw(s)} {BOARD.draw(s)}",
            f"on the {OTHER_COLOUR.draw(s)} {BOARD.draw(s)}",
            f"{s.random.choice(('on', 'in', 'into'))} the {FURNITURE.draw(s)}",
            f"on {s.random.choice(('shelf', 'level', 'shelf number'))} {s.random.choice(('three', '3', 'four', '4', '5', 'zero', '0', 'ten'))}",
        ))  # fmt: skip
    elif style < 0.6:
        place = (
            s.random.choice(("into", "next to", "on top of", "beside", "behind"))
            + " "
            + s.cup(s.random.choice([c for c in COLOUR_NAMES if c != colour]))
        )
    return Sentence(
        s.say(TEMPLATES.draw(s), s.cup(COLOURS[colour].draw(s)), place),
        DO,
        _label(colour),
        OTHER,
        "other place",
    )


def _both_wrong(s: _Speaker) -> Sentence:
    cup = s.cup(OTHER_COLOUR.draw(s)) if s.random.random() < 0.5 else f"the {OTHER_THING.draw(s)}"
    return Sentence(
        s.say(TEMPLATES.draw(s), cup, OTHER_PLACE.draw(s)), DO, OTHER, OTHER, "other target and place"
    )


def _missing(s: _Speaker) -> Sentence:
    colour, level = s.random.choice(COLOUR_NAMES), s.random.choice(tuple(LEVELS))
    cup, target = s.cup(COLOURS[colour].draw(s)), _label(colour)
    place, destination = s.place(level), LEVELS[level]
    style = s.random.random()
    if style < 0.45:
        cup, target = s.random.choice(("a cup", "the cup", "a mug", "it", "one of the cups", "some cup", "any cup", "something", "that", "the mug", "the tumbler",
                                       "a glass", "the little cup", "this one", "the coloured cup")), MISSING  # fmt: skip
    elif style < 0.85:
        place, destination = s.random.choice(("on the shelf", "somewhere", "on a shelf", "on one of the shelves", "somewhere else", "on any level", "away",
                                              "onto the shelf", "on the board", "there", "up", "", "on the rack", "to another place")), MISSING  # fmt: skip
    else:
        cup, target = s.random.choice(("a cup", "the cup", "it", "something")), MISSING
        place, destination = s.random.choice(("on the shelf", "somewhere", "on a shelf", "there")), MISSING
    return Sentence(s.say(TEMPLATES.draw(s), cup, place), DO, target, destination, "missing")


def _several(s: _Speaker) -> Sentence:
    first, second = s.random.sample(COLOUR_NAMES, 2)
    level, style = s.random.choice(tuple(LEVELS)), s.random.random()
    a, b = COLOURS[first].draw(s), COLOURS[second].draw(s)
    thing = CUP.draw(s)
    cup, target = s.cup(a), _label(first)
    place, destination = s.place(level), LEVELS[level]
    if style < 0.6:
        target = SEVERAL
        cup = s.random.choice((f"the {a} and the {b} {thing}", f"the {a} {thing} and the {b} {thing}", f"the {a} or the {b} {thing}", "all the cups", "both cups",
                               "every cup", f"the {a} and {b} cups", f"either the {a} or the {b} {thing}", "all three cups", "the cups", "two cups",
                               f"the {a}, the {b} and every other {thing}", f"the {a} {thing} as well as the {b} one"))  # fmt: skip
    elif style < 0.85:
        destination = SEVERAL
        top, bottom = s.place("top"), s.place("bottom")
        place = s.random.choice((f"{top} and {bottom}", f"{bottom} and {top}", f"{top} or {bottom}", f"first {bottom} and then {top}", "on the top and bottom shelf",
                                 "on both shelves", "on the top or bottom shelf", "on the lower and the upper shelf"))  # fmt: skip
    else:
        verb = PUT.draw(s)
        text = f"{verb} {s.cup(a)} {s.place('top')} and {s.random.choice(('', verb + ' '))}{s.cup(b)} {s.place('bottom')}"
        return Sentence(s.say(text), DO, SEVERAL, SEVERAL, "several")
    return Sentence(s.say(TEMPLATES.draw(s), cup, place), DO, target, destination, "several")


def _negated(s: _Speaker) -> Sentence:
    colour, level = s.random.choice(COLOUR_NAMES), s.random.choice(tuple(LEVELS))
    cup, place = s.cup(COLOURS[colour].draw(s)), s.place(level)
    if s.random.random() < 0.6:
        body = s.random.choice(("{v} {c} {p} {z}", "{t} {c} and {v} it {p}", "{v} {c} {p}"))
        template = NEGATION.draw(s).replace("{}", body)
    else:
        template = EXCEPT.draw(s)
    return Sentence(s.say(template, cup, place), NEGATED, None, None, "negated")


def _other_action(s: _Speaker) -> Sentence:
    colour, level = s.random.choice(COLOUR_NAMES), s.random.choice(tuple(LEVELS))
    cup, place = s.cup(COLOURS[colour].draw(s)), s.place(level)
    style = s.random.random()
    if style < 0.4:
        template = s.random.choice(("{a} ", "{a} ", "")) + OTHER_VERB.draw(s)
        template += s.random.choice((" {c} {p}", " {c} {p} {z}", " {c}"))
    elif style < 0.55:  # a report, not a request
        deed = s.random.choice(
            (
                "puts",
                "has put",
                "will put",
                "is putting",
                "placed",
                "moves",
                "moved",
                "wanted to put",
                "brought",
                "sets",
            )
        )
        template = f"{SUBJECT.draw(s)} {deed} {{c}} {{p}}"
    else:
        template = QUESTION.draw(s)
    return Sentence(s.say(template, cup, place), OTHER, None, None, "other action")


def _unrelated(s: _Speaker) -> Sentence:
    style = s.random.random()
    if style < 0.55:
        return Sentence(UNRELATED.draw(s), OTHER, None, None, "unrelated")
    if style < 0.75:
        return Sentence(s.say(f"{SUBJECT.draw(s)} {DEED.draw(s)}"), OTHER, None, None, "unrelated")
    if style < 0.85:
        letters = "".join(
            s.random.choice("abcdefghijklmnopqrstuvwxyz  ") for _ in range(s.random.randint(3, 40))
        )
        s.novel = True
        return Sentence(letters, OTHER, None, None, "unrelated")
    if style < 0.93:  # the words of an instruction, but not an instruction
        words = (
            s.say(
                "{v} {c} {p}", s.cup(s.random.choice(COLOUR_NAMES)), s.place(s.random.choice(tuple(LEVELS)))
            )
            .lower()
            .split()
        )
        words = [word for word in words if word not in ("put", "place")]
        s.random.shuffle(words)
        return Sentence(" ".join(words[: s.random.randint(1, 3)]), OTHER, None, None, "unrelated")
    verb = OTHER_VERB.draw(s)
    return Sentence(
        s.say(f"{{a}} {verb} the {OTHER_THING.draw(s)} {OTHER_PLACE.draw(s)}"), OTHER, None, None, "unrelated"
    )


# How often each part of the grammar speaks.
_FAMILIES: tuple[tuple[Callable[[_Speaker], Sentence], float], ...] = (
    (_valid, 0.42), (_other_target, 0.11), (_other_place, 0.11), (_both_wrong, 0.03), (_missing, 0.07), (_several, 0.07),
    (_negated, 0.05), (_other_action, 0.09), (_unrelated, 0.05),
)  # fmt: skip


def sentences(split: str, count: int, seed: int = 0) -> list[Sentence]:
    """`count` different sentences of one split, the same for the same seed."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    found: dict[str, Sentence] = {}
    for sentence in _stream(_Speaker(split, seed)):
        found.setdefault(sentence.text.lower(), sentence)
        if len(found) == count:
            break
    return list(found.values())


def _stream(speaker: _Speaker) -> Iterator[Sentence]:
    families, weights = zip(*_FAMILIES, strict=True)
    while True:
        speaker.novel = False
        sentence = speaker.random.choices(families, weights)[0](speaker)
        if speaker.novel or speaker.split == "train":
            yield sentence
