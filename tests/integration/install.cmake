outfall_test(install_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/install_test.cc
  LIBS outfall_test_support
  LABELS integration plain)
add_dependencies(install_test outfall)
set(OUTFALL_COMPLETIONS_FOLDER "")
if(TARGET completions)
  get_target_property(OUTFALL_COMPLETIONS_FOLDER completions BINARY_DIR)
  string(APPEND OUTFALL_COMPLETIONS_FOLDER "/completions")
endif()
foreach(target completions man_pages)
  if(TARGET ${target})
    add_dependencies(install_test ${target})
  endif()
endforeach()
target_compile_definitions(install_test PRIVATE
  OUTFALL_CMAKE="${CMAKE_COMMAND}"
  OUTFALL_BUILD_FOLDER="${CMAKE_BINARY_DIR}"
  OUTFALL_SOURCE_FOLDER="${CMAKE_SOURCE_DIR}"
  OUTFALL_COMPLETIONS_FOLDER="${OUTFALL_COMPLETIONS_FOLDER}"
  OUTFALL_DOC_FOLDER="${CMAKE_INSTALL_DOCDIR}")
