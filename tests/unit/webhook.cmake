outfall_test(webhook_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/webhook_address_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/webhook_classify_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/webhook_pace_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/webhook_request_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/webhook_settings_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/webhook_signature_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/webhook_url_test.cc
  LIBS outfall_emitter_webhook outfall_test_emitter
  LABELS unit)
target_compile_definitions(webhook_test PRIVATE OUTFALL_SOURCE_FOLDER="${CMAKE_SOURCE_DIR}")
