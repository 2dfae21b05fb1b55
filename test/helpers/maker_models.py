"""Robot models as makers publish them, small: an arm of two joints with a gripper."""

from __future__ import annotations

INERTIAL = '<inertial><mass value="1"/><inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial>'
URDF = f"""<robot name="arm">
  <link name="base">{INERTIAL}<visual><geometry><mesh filename="package://maker_description/meshes/base.stl"/></geometry></visual></link>
  <link name="upper">{INERTIAL}
    <visual><geometry><mesh filename="package://maker_description/meshes/upper.dae"/></geometry></visual>
    <collision><geometry><mesh filename="package://maker_description/meshes/gone.stl"/></geometry></collision>
  </link>
  <link name="lower">{INERTIAL}<collision><geometry><box size="0.1 0.1 0.2"/></geometry></collision></link>
  <link name="flange"/>
  <link name="thumb"><collision><origin xyz="0 0 0.05"/><geometry><box size="0.02 0.02 0.1"/></geometry></collision></link>
  <link name="finger">{INERTIAL}</link>
  <joint name="pan" type="continuous"><parent link="base"/><child link="upper"/><origin xyz="0 0 0.3"/><axis xyz="0 0 2"/>
    <limit effort="40" velocity="2"/></joint>
  <joint name="tilt" type="revolute"><parent link="upper"/><child link="lower"/><origin xyz="0 0 0.1" rpy="0 0 0"/>
    <axis xyz="0 1 0"/><limit lower="-2" upper="2" effort="30" velocity="1.5"/><dynamics damping="0.4" friction="0.2"/></joint>
  <joint name="wrist" type="fixed"><parent link="lower"/><child link="flange"/><origin xyz="0 0 0.5" rpy="0 0.3 0"/></joint>
  <joint name="thumb_joint" type="revolute"><parent link="flange"/><child link="thumb"/><origin xyz="0 0.03 0"/>
    <axis xyz="1 0 0"/><limit lower="0" upper="0.8" effort="5" velocity="1"/></joint>
  <joint name="finger_joint" type="revolute"><parent link="flange"/><child link="finger"/><origin xyz="0 -0.03 0"/>
    <axis xyz="1 0 0"/><limit lower="-0.9" upper="0.1" effort="5" velocity="1"/>
    <mimic joint="thumb_joint" multiplier="-0.5" offset="0.1"/></joint>
</robot>"""

MJCF = """<mujoco model="arm">
  <compiler angle="degree"/>
  <option timestep="0.005" integrator="RK4"/>
  <worldbody>
    <light name="lamp"/> <camera name="top" pos="0 0 3"/>
    <geom name="floor" type="plane" size="2 2 0.1"/>
    <body name="table" pos="1 0 0"><geom type="box" size="0.2 0.2 0.2"/></body>
    <body name="box" pos="0.5 0 1"><freejoint name="free_box"/><geom size="0.03"/></body>
    <frame pos="0.2 0.5 0" euler="0 0 90">
      <body name="foot" gravcomp="1">
        <geom size="0.05" mass="1"/>
        <body name="lifted" pos="0 0 0.2" euler="0 0 30">
          <joint name="lift" type="slide" axis="0 0 1" range="0.1 0.4"/> <geom size="0.05" mass="1"/>
          <body name="upper" pos="0 0 0.1">
            <joint name="pan" axis="0 0 1" range="-170 170"/> <geom size="0.05" mass="1"/>
            <body name="lower" pos="0.3 0 0"> <joint name="tilt" axis="0 1 0" pos="0 0 0.05" range="-90 90" armature="0.1"/>
              <geom size="0.05" mass="1" pos="0.1 0 0"/>
              <site name="tip" pos="0.3 0 0"/>
              <body name="left" pos="0.3 0 0"><joint name="left" type="slide" axis="0 1 0" range="0 0.04"/><geom size="0.01"/></body>
              <body name="right" pos="0.3 0 0"><joint name="right" type="slide" axis="0 1 0" range="-0.04 0"/><geom size="0.01"/></body>
            </body>
          </body>
        </body>
      </body>
    </frame>
  </worldbody>
  <tendon><fixed name="both"><joint joint="left" coef="1"/><joint joint="right" coef="-1"/></fixed></tendon>
  <equality><joint joint1="right" joint2="left" polycoef="0 -1 0 0 0"/></equality>
  <actuator><position name="p" joint="pan" forcerange="-12 12"/><general name="g" tendon="both"/></actuator>
  <sensor><jointpos joint="pan"/></sensor>
  <keyframe><key name="rest" qpos="0 0 1 1 0 0 0 0.1 0 0 0 0"/></keyframe>
</mujoco>"""


def six_axes(effort: str = 'effort="60"') -> str:
    """A URDF of an arm with six joints, of which the first turns without end, and a gripper of two slides."""
    axes = ("0 0 1", "0 1 0", "0 1 0", "1 0 0", "0 1 0", "1 0 0")
    places = ("0 0 0.15", "0 0 0.1", "0 0 0.35", "0.15 0 0", "0.15 0 0", "0.08 0 0")
    shape = '<collision><origin xyz="{0}"/><geometry><box size="{1}"/></geometry></collision>'
    shapes = [
        shape.format("0 0 0.04", "0.08 0.08 0.06"), shape.format("0 0 0.17", "0.06 0.06 0.25"), shape.format("0.06 0 0", "0.12 0.06 0.06"),
        shape.format("0.07 0 0", "0.1 0.05 0.05"), shape.format("0.03 0 0", "0.06 0.05 0.05"), shape.format("0.02 0 0", "0.04 0.06 0.06"),
    ]  # fmt: skip
    parts = [
        f'<robot name="six"><link name="base_link">{INERTIAL}{shape.format("0 0 0.05", "0.2 0.2 0.1")}</link>'
    ]
    for i, (axis, place) in enumerate(zip(axes, places, strict=True), 1):
        kind = "continuous" if i == 1 else "revolute"
        limit = (
            f'<limit {effort} velocity="2"/>'
            if i == 1
            else f'<limit lower="-2.5" upper="2.5" {effort} velocity="2"/>'
        )
        parent = "base_link" if i == 1 else f"link{i - 1}"
        parts.append(
            f'<link name="link{i}">{INERTIAL}{shapes[i - 1]}</link><joint name="joint{i}" type="{kind}"><parent link="{parent}"/>'
            f'<child link="link{i}"/><origin xyz="{place}"/><axis xyz="{axis}"/>{limit}</joint>'
        )
    turned = 'rpy="0 1.5707963267948966 0"'
    parts.append(
        '<link name="tcp"/><joint name="tcp_joint" type="fixed"><parent link="link6"/><child link="tcp"/>'
        f'<origin xyz="0.15 0 0" {turned}/></joint>'
    )
    for side, sign in (("left", 1), ("right", -1)):
        mimic = "" if side == "left" else '<mimic joint="left_finger_joint"/>'
        parts.append(
            f'<link name="{side}_finger"><inertial><mass value="0.05"/><inertia ixx="1e-5" iyy="1e-5" izz="1e-5" ixy="0" ixz="0" '
            f'iyz="0"/></inertial>{shape.format("0.05 0 0", "0.08 0.01 0.02")}</link><joint name="{side}_finger_joint" type="prismatic">'
            f'<parent link="link6"/><child link="{side}_finger"/><origin xyz="0.05 {0.01 * sign} 0"/><axis xyz="0 {sign} 0"/>'
            f'<limit lower="0" upper="0.03" effort="40" velocity="0.1"/>{mimic}</joint>'
        )
    return "".join(parts) + "</robot>"
