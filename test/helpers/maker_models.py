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
