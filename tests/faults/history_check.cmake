outfall_library(outfall_history
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/history.cc
    ${CMAKE_CURRENT_LIST_DIR}/history_judge.cc
    ${CMAKE_CURRENT_LIST_DIR}/history_judge_blame.cc
    ${CMAKE_CURRENT_LIST_DIR}/history_judge_copies.cc
    ${CMAKE_CURRENT_LIST_DIR}/history_judge_ends.cc
    ${CMAKE_CURRENT_LIST_DIR}/history_judge_extra.cc
    ${CMAKE_CURRENT_LIST_DIR}/history_judge_keys.cc
    ${CMAKE_CURRENT_LIST_DIR}/history_judge_leases.cc
    ${CMAKE_CURRENT_LIST_DIR}/history_reader.cc
    ${CMAKE_CURRENT_LIST_DIR}/history_report.cc
  PUBLIC outfall_json fmt::fmt)

add_executable(outfall_history_check ${CMAKE_CURRENT_LIST_DIR}/history_check.cc)
target_link_libraries(outfall_history_check PRIVATE
  outfall_options outfall_quick_build outfall_history CLI11::CLI11)

outfall_test(history_check_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/history_blame_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/history_check_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/history_ends_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/history_good_run.cc
    ${CMAKE_CURRENT_LIST_DIR}/history_mutation_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/history_program_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/history_scene.cc
    ${CMAKE_CURRENT_LIST_DIR}/history_zombie_test.cc
  LIBS outfall_history outfall_test_support
  LABELS unit)
add_dependencies(history_check_test outfall_history_check)
target_compile_definitions(history_check_test PRIVATE
  OUTFALL_HISTORY_CHECK="$<TARGET_FILE:outfall_history_check>")
