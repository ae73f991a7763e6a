outfall_test(core_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/core_breaker_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/core_cloudevents_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/core_error_text_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/core_headers_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/core_ids_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/core_retry_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/core_setting_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/core_transition_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/core_transition_property_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/core_words_test.cc
  LIBS outfall_core outfall_json
  LABELS unit)
