outfall_test(cli_top_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/admin_client.cc
    ${CMAKE_CURRENT_LIST_DIR}/cli_top_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/worker_fixture.cc
  LIBS outfall_test_support outfall_json fmt::fmt CURL::libcurl
  LABELS integration postgres)
add_dependencies(cli_top_test outfall)
target_compile_definitions(cli_top_test PRIVATE OUTFALL_BINARY="$<TARGET_FILE:outfall>")
