outfall_test(run_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/admin_client.cc
    ${CMAKE_CURRENT_LIST_DIR}/run_claims_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/run_edges_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/run_faults_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/run_order_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/run_payloads_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/worker_fixture.cc
  LIBS outfall_test_support outfall_json CURL::libcurl
  TIMEOUT 900
  LABELS integration postgres)
add_dependencies(run_test outfall)
target_compile_definitions(run_test PRIVATE OUTFALL_BINARY="$<TARGET_FILE:outfall>")
