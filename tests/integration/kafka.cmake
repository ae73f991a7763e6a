# All of it in one binary, since each binary starts a broker.
outfall_test(kafka_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/kafka_conformance_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_errors_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_fixture.cc
    ${CMAKE_CURRENT_LIST_DIR}/kafka_outage_test.cc
  LIBS outfall_emitter_kafka outfall_test_emitter outfall_test_kafka outfall_json
  TIMEOUT 900
  LABELS integration)
