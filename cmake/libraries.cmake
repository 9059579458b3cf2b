# The libraries we stand on, linked statically where the system has archives, so that the program
# needs nothing but libc and libm at run time.
find_package(Threads REQUIRED)
add_library(aa_libraries INTERFACE)

function(aa_find_library header)
  find_path(path_${header} NAMES ${header} REQUIRED)
  set(CMAKE_FIND_LIBRARY_SUFFIXES .a ${CMAKE_FIND_LIBRARY_SUFFIXES})
  foreach(name IN LISTS ARGN)
    find_library(lib_${name} NAMES ${name} REQUIRED)
    target_link_libraries(aa_libraries INTERFACE ${lib_${name}})
  endforeach()
  target_include_directories(aa_libraries SYSTEM INTERFACE ${path_${header}})
endfunction()

aa_find_library(jansson.h jansson)
aa_find_library(pcre2.h pcre2-8)
aa_find_library(utf8proc.h utf8proc)
aa_find_library(xxhash.h)
target_compile_definitions(aa_libraries INTERFACE UTF8PROC_STATIC PCRE2_STATIC
  PCRE2_CODE_UNIT_WIDTH=8)
target_link_libraries(aa_libraries INTERFACE Threads::Threads m ${CMAKE_DL_LIBS})
