# The supervisor that ops/torture starts, and what of it can be tested without servers.
outfall_library(outfall_torture_plan
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/torture/counters.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/gauges.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/history.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/jobs.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/plan.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/plan_kinds.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/play.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/report.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/result.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/soak_bounds.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/soak_faults.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/tally.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/witness.cc
  PUBLIC outfall_history outfall_json outfall_test_support fmt::fmt)

add_executable(outfall_torture
  ${CMAKE_SOURCE_DIR}/tests/integration/admin_client.cc
  ${CMAKE_CURRENT_LIST_DIR}/torture/broken.cc
  ${CMAKE_CURRENT_LIST_DIR}/torture/database.cc
  ${CMAKE_CURRENT_LIST_DIR}/torture/faults.cc
  ${CMAKE_CURRENT_LIST_DIR}/torture/faults_network.cc
  ${CMAKE_CURRENT_LIST_DIR}/torture/faults_producer.cc
  ${CMAKE_CURRENT_LIST_DIR}/torture/faults_server.cc
  ${CMAKE_CURRENT_LIST_DIR}/torture/faults_session.cc
  ${CMAKE_CURRENT_LIST_DIR}/torture/faults_standby.cc
  ${CMAKE_CURRENT_LIST_DIR}/torture/faults_worker.cc
  ${CMAKE_CURRENT_LIST_DIR}/torture/kafka_sink.cc
  ${CMAKE_CURRENT_LIST_DIR}/torture/load.cc
  ${CMAKE_CURRENT_LIST_DIR}/torture/main.cc
  ${CMAKE_CURRENT_LIST_DIR}/torture/operator.cc
  ${CMAKE_CURRENT_LIST_DIR}/torture/run.cc
  ${CMAKE_CURRENT_LIST_DIR}/torture/sink.cc
  ${CMAKE_CURRENT_LIST_DIR}/torture/soak.cc
  ${CMAKE_CURRENT_LIST_DIR}/torture/soak_gauges.cc
  ${CMAKE_CURRENT_LIST_DIR}/torture/soak_look.cc
  ${CMAKE_CURRENT_LIST_DIR}/torture/worker.cc)
target_link_libraries(outfall_torture PRIVATE
  outfall_options outfall_quick_build outfall_torture_plan outfall_history outfall_test_support
  outfall_test_kafka outfall_json PkgConfig::rdkafka CURL::libcurl CLI11::CLI11 fmt::fmt)
target_compile_definitions(outfall_torture PRIVATE
  OUTFALL_BINARY="$<TARGET_FILE:outfall>"
  OUTFALL_SOURCE_FOLDER="${CMAKE_SOURCE_DIR}")
add_dependencies(outfall_torture outfall outfall_history_check)

outfall_test(torture_plan_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/torture/counters_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/docs_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/gauges_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/jobs_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/plan_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/play_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/report_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/soak_faults_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/tally_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/witness_test.cc
  LIBS outfall_torture_plan
  LABELS unit)
target_compile_definitions(torture_plan_test PRIVATE OUTFALL_SOURCE_FOLDER="${CMAKE_SOURCE_DIR}")
outfall_test(torture_worker_test
  SOURCES
    ${CMAKE_SOURCE_DIR}/tests/integration/admin_client.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/worker.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/worker_test.cc
  LIBS outfall_torture_plan outfall_test_support CURL::libcurl
  LABELS unit)
outfall_test(torture_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/torture/broken_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/soak_look.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/soak_look_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/steps_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/usage_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/torture/whole_test.cc
  LIBS outfall_torture_plan outfall_test_support
  TIMEOUT 1800
  LABELS faults postgres no-asan no-tsan)
target_compile_definitions(torture_test PRIVATE
  OUTFALL_BINARY="$<TARGET_FILE:outfall>"
  OUTFALL_TORTURE="$<TARGET_FILE:outfall_torture>")
add_dependencies(torture_test outfall_torture)
set_tests_properties(torture_test PROPERTIES RUN_SERIAL TRUE)
