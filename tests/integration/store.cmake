outfall_test(store_test
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/store_connection_test.cc
    ${CMAKE_CURRENT_LIST_DIR}/store_pool_test.cc
  LIBS outfall_drain outfall_store_postgres outfall_test_support
  LABELS integration postgres)
