outfall_test(kafka_unit_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/kafka_classify_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_lookups_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_mapping_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_mock_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_partitions_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_producers_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_settings_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_statistics_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_topic_template_test.cc
    ${CMAKE_SOURCE_DIR}/tests/support/hanging_lookups.cc
    ${CMAKE_SOURCE_DIR}/tests/support/refused_producers.cc
  LIBS outfall_emitter_kafka outfall_test_emitter outfall_test_kafka ${CMAKE_DL_LIBS}
  LABELS unit)
target_compile_definitions(kafka_unit_test PRIVATE OUTFALL_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
