outfall_test(daemon_service_manager_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/daemon_service_manager_test.cc
    ${CMAKE_SOURCE_DIR}/daemon/service_manager.cc
  LIBS outfall_core fmt::fmt
  LABELS unit)
