# The manual page is made from what the program says about itself, so it cannot disagree with it.
if(NOT CMAKE_CROSSCOMPILING AND NOT AA_SANITIZE)
  add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/autoane.1
    COMMAND ${CMAKE_SOURCE_DIR}/tools/make-man $<TARGET_FILE:autoane>
            > ${CMAKE_BINARY_DIR}/autoane.1
    DEPENDS autoane ${CMAKE_SOURCE_DIR}/tools/make-man VERBATIM)
  add_custom_target(man ALL DEPENDS ${CMAKE_BINARY_DIR}/autoane.1)
  install(FILES ${CMAKE_BINARY_DIR}/autoane.1 DESTINATION share/man/man1 OPTIONAL)
endif()
