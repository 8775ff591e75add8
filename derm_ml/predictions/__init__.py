"""What a model says of every image of a split: predicted once, kept below its model folder, read by everybody.

    predictions_of(classifier, dataset, "test", model_folder)      logits, probabilities, embedding, Grad-CAM maps
    masks_of(segmenter, dataset, "test", model_folder)             masks in both frames, confidence

Evaluation, heatmaps, embeddings and what is made of them, pseudo-labels and calibration ask here. Without a model
folder everything is predicted afresh and nothing is kept: so does promotion, which believes no file.
"""
