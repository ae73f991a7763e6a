outfall_test(install_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/install_test.cc
  LIBS outfall_test_support
  LABELS integration plain)
add_dependencies(install_test outfall)
get_target_property(completions outfall OUTFALL_COMPLETIONS)
target_compile_definitions(install_test PRIVATE
  OUTFALL_CMAKE="${CMAKE_COMMAND}"
  OUTFALL_BUILD_FOLDER="${CMAKE_BINARY_DIR}"
  OUTFALL_SOURCE_FOLDER="${CMAKE_SOURCE_DIR}"
  OUTFALL_COMPLETIONS_FOLDER="$<IF:$<BOOL:${completions}>,${completions},>"
  OUTFALL_DOC_FOLDER="${CMAKE_INSTALL_DOCDIR}")
