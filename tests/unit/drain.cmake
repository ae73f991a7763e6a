outfall_test(drain_stream_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/drain_stream_test.cc
  LIBS outfall_drain outfall_telemetry spdlog::spdlog
  LABELS unit)

outfall_test(drain_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/drain_fixture.cc
    ${CMAKE_CURRENT_LIST_DIR}/drain_test.cc
  LIBS outfall_drain outfall_test_support
  LABELS unit)
