# physai_find_ros_c(): the interface target `physai_ros_c` with rcl and the messages that the `topic` backend speaks,
# or none where they are not installed.
#
# By file rather than find_package(rcl): that goes on to the middleware's packages and asks for the development files
# of all that these use (OpenSSL, TinyXML2), which neither the wheels of ROS 2 bring nor our few calls need. Headers
# are in include/<package>/<package> since Humble. Prefixes are CMAKE_PREFIX_PATH and AMENT_PREFIX_PATH, as a sourced
# ROS sets them.
function(physai_find_ros_c)
  if(TARGET physai_ros_c)
    return()
  endif()
  string(REPLACE ":" ";" prefixes "$ENV{AMENT_PREFIX_PATH}")
  set(found_includes "")
  foreach(header rcl/rcl.h rcl_yaml_param_parser/types.h rcutils/allocator.h rmw/rmw.h rosidl_dynamic_typesupport/types.h
          rosidl_runtime_c/visibility_control.h rosidl_typesupport_interface/macros.h std_msgs/msg/bool.h
          type_description_interfaces/msg/type_description.h service_msgs/msg/service_event_info.h
          builtin_interfaces/msg/time.h sensor_msgs/msg/joint_state.h)
    string(REGEX MATCH "^[a-z_]+" package ${header})
    find_path(PHYSAI_${package}_INCLUDE NAMES ${header} PATHS ${prefixes} PATH_SUFFIXES include/${package})
    if(NOT PHYSAI_${package}_INCLUDE)
      message(STATUS "no ${header}: the topic backend is not built")
      return()
    endif()
    list(APPEND found_includes "${PHYSAI_${package}_INCLUDE}")
  endforeach()
  set(found_libraries "")
  foreach(library rcl rcutils rosidl_runtime_c std_msgs__rosidl_generator_c std_msgs__rosidl_typesupport_c
          sensor_msgs__rosidl_generator_c sensor_msgs__rosidl_typesupport_c)
    find_library(PHYSAI_${library}_LIBRARY NAMES ${library} PATHS ${prefixes} PATH_SUFFIXES lib)
    if(NOT PHYSAI_${library}_LIBRARY)
      message(STATUS "no lib${library}: the topic backend is not built")
      return()
    endif()
    list(APPEND found_libraries "${PHYSAI_${library}_LIBRARY}")
  endforeach()
  add_library(physai_ros_c INTERFACE IMPORTED GLOBAL)
  target_include_directories(physai_ros_c SYSTEM INTERFACE ${found_includes})
  target_link_libraries(physai_ros_c INTERFACE ${found_libraries})
endfunction()
