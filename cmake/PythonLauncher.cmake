# physai_python_launcher(<name> <module> <destination>): install a script that runs `main` of the module.
function(physai_python_launcher name module destination)
  set(script "${CMAKE_CURRENT_BINARY_DIR}/launchers/${name}")
  file(WRITE "${script}.in" "#!${Python3_EXECUTABLE}\nimport sys\n\nfrom ${module} import main\n\nsys.exit(main())\n")
  # configure_file keeps the time stamp of an unchanged script, and so does the installation.
  configure_file("${script}.in" "${script}" @ONLY)
  install(PROGRAMS "${script}" DESTINATION "${destination}")
endfunction()
