outfall_test(emitter_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/emitter_guard_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/emitter_noop_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/emitter_registry_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/emitter_stdout_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/emitter_stdout_descriptor_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/emitter_stdout_shared_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/event_lines.cc
  LIBS outfall_emitters outfall_emitter_noop outfall_emitter_stdout outfall_test_emitter outfall_json
  LABELS unit)
