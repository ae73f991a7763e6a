outfall_test(emitter_exec_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/emitter_exec_answer_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/emitter_exec_end_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/emitter_exec_settings_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/emitter_exec_start_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/emitter_exec_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/event_lines.cc
    ${CMAKE_CURRENT_LIST_DIR}/exec_fixture.cc
  LIBS outfall_emitter_exec outfall_test_emitter outfall_json
  LABELS unit)
target_compile_definitions(emitter_exec_test PRIVATE
  OUTFALL_SOURCE_FOLDER="${CMAKE_SOURCE_DIR}")
