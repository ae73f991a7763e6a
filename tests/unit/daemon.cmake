outfall_test(daemon_json_text_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/daemon_json_text_test.cc
    ${CMAKE_SOURCE_DIR}/daemon/json_text.cc
  LIBS outfall_json fmt::fmt
  LABELS unit)
outfall_test(daemon_service_manager_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/daemon_service_manager_test.cc
    ${CMAKE_SOURCE_DIR}/daemon/service_manager.cc
  LIBS outfall_core fmt::fmt
  LABELS unit)
outfall_test(daemon_second_signal_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/daemon_second_signal_test.cc
    ${CMAKE_SOURCE_DIR}/daemon/second_signal.cc
  LIBS outfall_telemetry outfall_test_support
  LABELS unit)
