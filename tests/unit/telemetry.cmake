outfall_test(telemetry_log_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/telemetry_log_test.cc
  LIBS outfall_telemetry outfall_json spdlog::spdlog
  LABELS unit)
outfall_test(telemetry_journal_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/telemetry_journal_test.cc
  LIBS outfall_telemetry
  LABELS unit)
outfall_test(telemetry_metrics_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/telemetry_metrics_test.cc
  LIBS outfall_telemetry
  LABELS unit)
target_compile_definitions(telemetry_metrics_test PRIVATE
  OUTFALL_METRICS_REFERENCE="${CMAKE_SOURCE_DIR}/docs/reference/metrics.md")
