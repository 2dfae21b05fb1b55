# physai_python_launcher(<name> <module> <destination>): install a script that runs `main` of the module.
function(physai_python_launcher name module destination)
  set(script "${CMAKE_CURRENT_BINARY_DIR}/launchers/${name}")
  # Until `main` sets its own handlers there is nothing to end in order; a traceback of an import would say nothing.
  file(WRITE "${script}.in" "#!${Python3_EXECUTABLE}
import os
import signal
import sys

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: os._exit(128 + number))
from physai_ros.environment import refuse_wrong

refuse_wrong('physai ${name}')
from ${module} import main

sys.exit(main())
")
  # configure_file keeps the time stamp of an unchanged script, and so does the installation.
  configure_file("${script}.in" "${script}" @ONLY)
  install(PROGRAMS "${script}" DESTINATION "${destination}")
endfunction()
