outfall_test(webhook_emitter_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/webhook_conformance_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/webhook_answers_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/webhook_endpoints_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/webhook_fixture.cc
    ${CMAKE_CURRENT_LIST_DIR}/webhook_judges_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/webhook_lookups_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/webhook_tls_test.cc
    ${CMAKE_SOURCE_DIR}/tests/support/hanging_lookups.cc
    ${CMAKE_SOURCE_DIR}/tests/unit/event_lines.cc
  LIBS outfall_emitter_webhook outfall_test_emitter outfall_json ${CMAKE_DL_LIBS}
  LABELS integration)
target_compile_definitions(webhook_emitter_test PRIVATE OUTFALL_SOURCE_FOLDER="${CMAKE_SOURCE_DIR}")

# Its allocations fail where the test says so: it has its own operator new, as sanitizers have.
if(NOT OUTFALL_SANITIZE)
  outfall_test(webhook_memory_test
    SOURCES
      ${CMAKE_CURRENT_LIST_DIR}/webhook_memory_test.cc
    LIBS outfall_emitter_webhook outfall_test_emitter
    LABELS integration plain)
endif()

outfall_test(webhook_worker_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/admin_client.cc
    ${CMAKE_CURRENT_LIST_DIR}/webhook_claims_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/webhook_sample_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/webhook_worker_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/worker_fixture.cc
  LIBS outfall_test_support outfall_json CURL::libcurl
  TIMEOUT 600
  LABELS integration postgres)
add_dependencies(webhook_worker_test outfall)
target_compile_definitions(webhook_worker_test PRIVATE
  OUTFALL_BINARY="$<TARGET_FILE:outfall>"
  OUTFALL_SOURCE_FOLDER="${CMAKE_SOURCE_DIR}")
