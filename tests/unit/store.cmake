outfall_test(store_codec_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/store_codec_test.cc
  LIBS outfall_store_postgres
  LABELS unit)
