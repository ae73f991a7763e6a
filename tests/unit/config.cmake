outfall_test(config_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/config_conninfo_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/config_environment_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/config_fixture.cc
    ${CMAKE_CURRENT_LIST_DIR}/config_mistakes_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/config_print_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/config_reference_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/config_reload_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/config_secrets_test.cc
  LIBS outfall_config outfall_emitters outfall_test_support fmt::fmt
  LABELS unit)
target_compile_definitions(config_test PRIVATE OUTFALL_SOURCE_FOLDER="${CMAKE_SOURCE_DIR}")
