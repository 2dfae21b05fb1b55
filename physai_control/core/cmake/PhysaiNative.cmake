# PHYSAI_SANITIZE is empty, or a value of -fsanitize= such as address,undefined or thread.
set(PHYSAI_SANITIZE "" CACHE STRING "Sanitizers for the C targets, e.g. address,undefined or thread")
if(PHYSAI_SANITIZE OR CMAKE_C_FLAGS MATCHES "-fsanitize")
  set(PHYSAI_INSTRUMENTED ON)
endif()

# physai_find_mujoco(): the imported target `mujoco_wheel`, from MUJOCO_DIR (the `mujoco` folder of the wheel,
# which holds headers and library) or, when that is unset, from the Python interpreter's own mujoco.
function(physai_find_mujoco)
  if(TARGET mujoco_wheel)
    return()
  endif()
  if(NOT MUJOCO_DIR)
    find_package(Python3 REQUIRED COMPONENTS Interpreter)
    execute_process(
      COMMAND "${Python3_EXECUTABLE}" -c
              "import importlib.util as u; s = u.find_spec('mujoco'); print(s.submodule_search_locations[0] if s else '')"
      OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE)
    if(NOT found)
      message(FATAL_ERROR "${Python3_EXECUTABLE} has no mujoco: install the wheel or give -DMUJOCO_DIR=<site-packages>/mujoco")
    endif()
    set(MUJOCO_DIR "${found}" CACHE PATH "The mujoco folder of the Python wheel" FORCE)
  endif()
  file(GLOB library "${MUJOCO_DIR}/libmujoco.so.*")
  list(LENGTH library count)
  if(NOT count EQUAL 1 OR NOT EXISTS "${MUJOCO_DIR}/include/mujoco/mujoco.h")
    message(FATAL_ERROR "MUJOCO_DIR=${MUJOCO_DIR} must hold include/mujoco/mujoco.h and one libmujoco.so.<version>")
  endif()
  add_library(mujoco_wheel SHARED IMPORTED GLOBAL)
  # Headers as SYSTEM: our warnings are for our code.
  set_target_properties(mujoco_wheel PROPERTIES IMPORTED_LOCATION "${library}"
    INTERFACE_INCLUDE_DIRECTORIES "${MUJOCO_DIR}/include")
  if(PHYSAI_INSTRUMENTED)
    # MuJoCo's header for instrumented builds of itself does not compile with GCC, and the wheel is none.
    set_target_properties(mujoco_wheel PROPERTIES INTERFACE_COMPILE_DEFINITIONS MUJOCO_INCLUDE_MJSAN_H_)
  endif()
endfunction()

# physai_native(<target>): the language, warnings and sanitizer of every C target of physai. Numbers are as without
# options: nobody asks for libm's errno or for floating-point traps, and those are all that is left out.
function(physai_native target)
  set_target_properties(${target} PROPERTIES C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF
    C_VISIBILITY_PRESET hidden POSITION_INDEPENDENT_CODE ON)
  target_compile_definitions(${target} PRIVATE _POSIX_C_SOURCE=200809L _DEFAULT_SOURCE)
  target_compile_options(${target} PRIVATE -O2 -g -fno-fast-math -fno-math-errno -fno-trapping-math -ftls-model=initial-exec -Wall -Wextra -Werror
    -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes -Wmissing-prototypes -Wvla)
  if(PHYSAI_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${PHYSAI_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(${target} PRIVATE -fsanitize=${PHYSAI_SANITIZE})
  endif()
endfunction()

# physai_layout(<target> <header>...): <target>_layout(), the table of structs and numbers that bindings check themselves with.
set(PHYSAI_LAYOUT "${CMAKE_CURRENT_LIST_DIR}/layout.py")
function(physai_layout target)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  set(source "${CMAKE_CURRENT_BINARY_DIR}/${target}_layout.c")
  add_custom_command(OUTPUT "${source}" COMMAND "${Python3_EXECUTABLE}" "${PHYSAI_LAYOUT}" ${target} "${source}" ${ARGN}
    DEPENDS "${PHYSAI_LAYOUT}" ${ARGN} VERBATIM)
  target_sources(${target} PRIVATE "${source}")
endfunction()

# physai_native_install(<folder> <target>...): beside the Python package, where $ORIGIN/../mujoco is the wheel.
function(physai_native_install folder)
  if(PHYSAI_PYTHON_INSTALL_DIR)
    set_target_properties(${ARGN} PROPERTIES INSTALL_RPATH "$ORIGIN/../mujoco;${MUJOCO_DIR}")
    install(TARGETS ${ARGN} LIBRARY DESTINATION "${PHYSAI_PYTHON_INSTALL_DIR}/${folder}")
  endif()
endfunction()
