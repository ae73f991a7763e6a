# All that needs only a broker in one binary, since each binary starts one.
outfall_test(kafka_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/java_judge.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_changes_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_conformance_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_errors_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_fixture.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_judges_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_outage_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_refusals_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_tls_test.cc
  LIBS outfall_emitter_kafka outfall_test_emitter outfall_test_kafka outfall_json
  TIMEOUT 900
  SHARDS 2
  LABELS integration)
target_compile_definitions(kafka_test PRIVATE OUTFALL_SOURCE_FOLDER="${CMAKE_SOURCE_DIR}")

# The real binary, PostgreSQL and Kafka together.
outfall_test(kafka_run_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/admin_client.cc
    ${CMAKE_CURRENT_LIST_DIR}/java_judge.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_debezium_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_replicas_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_rotation_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_run_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/worker_fixture.cc
  LIBS outfall_core outfall_test_support outfall_test_kafka outfall_json CURL::libcurl
  TIMEOUT 600
  SHARDS 2
  LABELS integration postgres)
add_dependencies(kafka_run_test outfall)
target_compile_definitions(kafka_run_test PRIVATE
  OUTFALL_BINARY="$<TARGET_FILE:outfall>"
  OUTFALL_SOURCE_FOLDER="${CMAKE_SOURCE_DIR}")
