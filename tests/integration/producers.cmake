outfall_test(producers_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/admin_client.cc
    ${CMAKE_CURRENT_LIST_DIR}/producers_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/worker_fixture.cc
  LIBS outfall_test_support outfall_json CURL::libcurl
  LABELS integration postgres)
add_dependencies(producers_test outfall)
target_compile_definitions(producers_test PRIVATE
  OUTFALL_BINARY="$<TARGET_FILE:outfall>"
  OUTFALL_SOURCE_FOLDER="${CMAKE_SOURCE_DIR}")
