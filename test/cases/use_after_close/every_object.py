"""Uses every object of C, from Python and by every public name, after it was closed; prints what did not say so."""

from __future__ import annotations

import inspect
import threading

import physai_lab.data.dataset  # noqa: F401  (loads what the cell loads, in its order)
from physai_base.embodiment import Embodiment
from physai_base.native import ClosedError
from physai_base.task import Task
from physai_control.bare_loop import BareLoop
from physai_control.core import ControlCore
from physai_sim.inject import Event, Injector
from physai_sim.plant import Plant
from physai_sim.scene import Scene

QUIET = {
    "close",
    "interrupt",
    "estop_on_signal",
    "cycle_function",
    "status_function",
    "handle",
    "impedance",
    "last_sequence",
    "repeats",
}


def use(thing: object, arguments: dict[str, tuple]) -> list[str]:
    """The names that did not raise a ClosedError."""
    wrong = []
    for name, member in inspect.getmembers_static(type(thing)):
        if name.startswith("_") or name in QUIET:
            continue
        try:
            got = (
                getattr(thing, name)
                if isinstance(member, property)
                else getattr(thing, name)(*arguments.get(name, ()))
            )
        except ClosedError:
            continue
        wrong.append(f"{type(thing).__name__}.{name} gave {got!r}")
    return wrong


def main() -> None:
    robot = Embodiment.load("fr3")
    scene = Scene.build(robot, Task.load("cups"))
    core = ControlCore(robot)
    injector = Injector(core.cycle_function, core.status_function, core.handle, 7, 1, 0)
    plant = Plant(scene.model, scene.data, robot, core=injector)
    plant.run(10)
    bare = BareLoop(1000.0, 0.25)
    wrong = []
    core.close()
    try:  # what stands on it says so as well
        plant.run(10)
        wrong.append("a plant ran on a closed controller")
    except ClosedError:
        pass
    for thing in (plant, injector, bare, core):
        thing.close()
        thing.close()
    import numpy as np

    from physai_base.values import ActionChunk, ChunkMode

    chunk = ActionChunk(
        1,
        "",
        0,
        0,
        10**7,
        ChunkMode.JOINT_POSITION,
        robot.joint_names,
        np.zeros((2, 7)),
        np.zeros((2, 1)),
        0.0,
        10**9,
    )
    arguments = {
        "post": (chunk,),
        "end_chunk": (1,),
        "configure": (robot.impedance,),
        "run": (1,),
        "move": (scene.model, scene.data),
        "add": (Event(0, 0.0, 1.0),),
    }
    for thing in (core, plant, injector, bare):
        wrong += use(thing, arguments)

    # And while other threads are at it.
    for _ in range(20):
        core = ControlCore(robot)
        ends: list[BaseException] = []

        def look(core: ControlCore = core, ends: list[BaseException] = ends) -> None:
            try:
                while True:
                    core.status()
            except ClosedError as error:
                ends.append(error)

        threads = [threading.Thread(target=look) for _ in range(3)]
        for thread in threads:
            thread.start()
        core.close()
        for thread in threads:
            thread.join()
        if len(ends) != 3:
            wrong.append("a thread ended otherwise")
    print("\n".join(wrong) or "nothing")


main()
