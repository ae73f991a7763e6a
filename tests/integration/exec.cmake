outfall_test(run_exec_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/admin_client.cc
    ${CMAKE_CURRENT_LIST_DIR}/run_exec_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/worker_fixture.cc
  LIBS outfall_test_support outfall_json CURL::libcurl
  TIMEOUT 600
  LABELS integration postgres)
add_dependencies(run_exec_test outfall)
target_compile_definitions(run_exec_test PRIVATE
  OUTFALL_BINARY="$<TARGET_FILE:outfall>"
  OUTFALL_SOURCE_FOLDER="${CMAKE_SOURCE_DIR}")
