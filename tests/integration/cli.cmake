outfall_test(cli_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/cli_config_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/cli_connect_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/cli_reference_test.cc
  LIBS outfall_store_postgres outfall_test_support outfall_json fmt::fmt
  LABELS integration postgres)
add_dependencies(cli_test outfall)
target_compile_definitions(cli_test PRIVATE
  OUTFALL_BINARY="$<TARGET_FILE:outfall>"
  OUTFALL_CLI_REFERENCE="${CMAKE_SOURCE_DIR}/docs/reference/cli.md"
  OUTFALL_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
