"""How cups may be asked for: plain and paraphrased, each cup and both boards; what is meant stands beside it."""

from __future__ import annotations

from physai_base.expert import Goal

INSTRUCTIONS: tuple[tuple[str, Goal], ...] = (
    ("put the red cup on the top shelf", Goal("red_cup", "top_shelf")),
    ("place the green cup on the bottom shelf", Goal("green_cup", "bottom_shelf")),
    ("could you move the blue mug to the upper shelf, please", Goal("blue_cup", "top_shelf")),
    ("take the red cup and set it down on the lower shelf", Goal("red_cup", "bottom_shelf")),
    ("I'd like the green cup up on the top shelf", Goal("green_cup", "top_shelf")),
    ("the blue cup belongs on the bottom level", Goal("blue_cup", "bottom_shelf")),
    ("bring the red mug to the highest shelf", Goal("red_cup", "top_shelf")),
    ("set the green tumbler on the lowest shelf", Goal("green_cup", "bottom_shelf")),
    ("put the blue cup on the top shelf", Goal("blue_cup", "top_shelf")),
    ("please stow the red cup on the bottom shelf", Goal("red_cup", "bottom_shelf")),
    ("lift the green cup onto the upper shelf", Goal("green_cup", "top_shelf")),
    ("move the blue cup down to the lower shelf", Goal("blue_cup", "bottom_shelf")),
)
